"""Real3D-Portrait's whole inference with published weights: photograph and voice or clip in, talking portrait out (spec 4).

The weights, the Basel face model and HuBERT belong to their authors and are the user's to bring: see ``triportrait weights list``.
Where the published code is defective (spec 8) this one is not, unless ``published_behaviour`` asks for a comparison: source motion picture
from the first driving expression, random rays, Euler angles added, blinks from frame 0 of every clip on, colours truncated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from triportrait.drivers import Progress, default_head, default_tracker
from triportrait.drivers import motion_of_video as open_motion_of_video
from triportrait.errors import EmptyMedia, MissingPart, OptionError
from triportrait.performance import Performance
from triportrait.real3d.driver import PaperOptions, PaperVideoDriver, PaperVoiceDriver
from triportrait.real3d.parts import described, find_files, load_networks
from triportrait.types import FOCAL_IN_WIDTHS, FPS, Array, Driver, Motion, MotionFrame, PathLike, PreparedPortrait, TriPlane

if TYPE_CHECKING:
    import torch

    from triportrait.face.tracker import FaceTracker
    from triportrait.real3d.audio_to_motion import PaperAudioToMotion
    from triportrait.real3d.avatar import Precision
    from triportrait.real3d.head_models import DrivenHead
    from triportrait.real3d.layers import PublishedLayers
    from triportrait.real3d.model import PaperModel, PaperState
    from triportrait.real3d.networks import PaperNetworks
    from triportrait.real3d.volume import VolumeRender, VolumeRenderer


log = logging.getLogger(__name__)

#: Share of the crop that the face's box takes at least (published: ``--min_face_area_percent``).
_FACE_AREA = 0.2
#: Opacity of a cell of 1 / 48 that counts as nothing (rays cross 83 cells at most), and cells added around all others: more than a step
#: of the coarse samples, whose densities are averaged with their neighbours'.
_EMPTY, _EMPTY_MARGIN = 1e-5, 3
#: Above this share of occupied cells, skipping costs more than it saves.
_MOSTLY_FULL = 0.7


# -- the pipeline ---------------------------------------------------------------------------------------------------------


class PaperPipeline:
    """The paper's parts together; hold one and prepare any number of portraits.

    Args:
        networks: as :func:`load_networks` gives them; put to work on ``device``.
        preset: their sizes.
        head: whose coefficients drive the networks: the Basel face or FLAME, with their landmarks, or the open head.
        hubert: loads transformers' HuBERT, or None where no voice will come. It is let go after each voice: it is larger than all
            other networks together.
        device: ``cpu`` or ``cuda``.
        published_behaviour: do as the published code does where it is defective.
        seed: of the random rays of the published behaviour; their order depends on the batch.
        precision: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is bfloat16 on a GPU.
        batch: frames that go through the networks at once; 0 takes 8 on a GPU and 1 on a CPU.
        segmenter: a picture uint8 [s, s, 3] to the six classes uint8 [s, s] of ``face.segmentation.ClassSegmenter``; None splits the
            person's mask by the fitted head and by skin colour.
        prepared_layers: the networks learned from clips of 'triportrait data prepare', and want torso and background as those have them;
            False takes the published way.
        trained_here: audio to motion comes from 'triportrait train': by default it makes a voice's blinks, see :class:`PaperOptions`.
        compiled: the networks of a frame through ``torch.compile``, which takes minutes at the first frame and needs a C++ compiler.
    """

    def __init__(
        self,
        networks: dict[str, torch.nn.Module],
        preset: PaperNetworks,
        head: DrivenHead,
        hubert: Callable[[], Any] | None = None,
        *,
        device: str = "cpu",
        published_behaviour: bool = False,
        seed: int = 0,
        precision: Precision = "auto",
        batch: int = 0,
        compiled: bool = False,
        segmenter: Callable[[Array], Array] | None = None,
        prepared_layers: bool = False,
        trained_here: bool = False,
    ) -> None:
        from triportrait.face.pncc import PnccRenderer, cull_of
        from triportrait.real3d.avatar import OneShotAvatar
        from triportrait.real3d.model import PaperModel
        from triportrait.real3d.volume import VolumeRenderer

        self.head, self.preset, self.published = head, preset, published_behaviour
        if batch < 0:
            raise OptionError(f"--batch is {batch}; use a positive whole number, or 0 for what suits the device")
        self.hubert, self.segmenter = hubert, segmenter
        self._prepared_layers, self.trained_here = prepared_layers, trained_here
        self.batch = batch or (8 if device.startswith("cuda") else 1)
        self.audio_to_motion = cast("PaperAudioToMotion | None", networks.get("audio_to_motion"))
        #: Networks of several classes.
        parts: dict[str, Any] = {
            name: _channels_last(networks[name].to(device))
            for name in ("image_to_plane", "motion_adapter", "decoder", "htb_super_resolution")
        }
        if compiled:
            import torch

            # Only what runs for every frame; the renderer's shapes depend on what it sees.
            parts |= {name: torch.compile(parts[name]) for name in ("motion_adapter", "htb_super_resolution")}
        volume = VolumeRenderer(parts["decoder"], replace(preset.volume, published_misses=published_behaviour))
        self._pncc = PnccRenderer(head, preset.photo_px, cull=cull_of(head.name))
        self.avatar = OneShotAvatar(
            parts["image_to_plane"],
            parts["motion_adapter"],
            _with_random_rays(volume, device, seed) if published_behaviour else _past_empty_space(volume),
            self.motion_picture,
            preset.photo_px,
            preset.motion_adapter.pictures,
            precision=precision,
        )
        self.model: PaperModel = PaperModel(
            self.avatar, parts["htb_super_resolution"], self.key_points, truncate=published_behaviour, batch=self.batch
        )

    def motion_picture(self, identity: Array, expression: Array, lid_closing: float = 0.0) -> Array:
        """PNCC of coefficients, the lids closed by a fraction: float32 [3, s, s]."""
        from triportrait.real3d.lids import close_lids

        return close_lids(self._pncc.render(self.head.vertices(identity, expression)), lid_closing)

    def key_points(self, identity: Array, frame: MotionFrame) -> Array:
        """The 68 landmarks [68, 2] of a motion row, in -1..1, y down."""
        from triportrait.face.pncc import focal_of
        from triportrait.geometry.cameras import pose_points, project

        points = self.head.landmarks68(self.head.vertices(identity, frame.expression))
        pixels, _ = project(pose_points(points, frame.rotation_rad, frame.translation), 1.0, focal_of(self.head.name))
        return np.clip(2.0 * pixels - 1.0, -1.0, 1.0)  # eq. 9

    def portrait(self, photo: PathLike | Array, face: int | None = None, *, tracker: FaceTracker | None = None) -> PaperPortrait:
        """Prepare a photograph: a file, or uint8 RGB [h, w, 3].

        Args:
            photo: see above.
            face: which face, counted from the left starting at 1; None takes the largest.
            tracker: finds the face and the person's outline; None takes the default.

        Raises:
            MediaError, NoFaceFound: see :func:`triportrait.pipeline.prepare`.
        """
        from triportrait.face.coverings import remarks
        from triportrait.face.tracker import choose_face
        from triportrait.face.upright import upright_photo
        from triportrait.media.images import composite_over, read_image

        image, name = (photo, "the photo") if isinstance(photo, np.ndarray) else (read_image(photo), Path(photo).name)
        if image.shape[-1] == 4:
            image = composite_over(image)
        tracker = default_tracker() if tracker is None else tracker
        image, faces = upright_photo(tracker, image, name)
        landmarks = choose_face(faces, face, name).landmarks
        box = published_crop(landmarks, (image.shape[0], image.shape[1]))
        source = None if isinstance(photo, np.ndarray) else Path(photo)
        portrait = self.portrait_in(image, box, landmarks, source=source, tracker=tracker)
        for remark in remarks(portrait.prepared, holds_mouth=False):
            log.warning("%s: %s", name, remark)
        return portrait

    def portrait_in(
        self,
        image: Array,
        box: tuple[float, float, float],
        landmarks: Array,
        *,
        source: Path | None = None,
        tracker: FaceTracker | None = None,
    ) -> PaperPortrait:
        """Prepare what a square of a photograph shows.

        Args:
            image: uint8 [h, w, 3], the whole photograph, upright.
            box: (left, top, side) of the square in its pixels.
            landmarks: [478, 3] in its pixels.
            source: its file.
            tracker: finds the person's outline; None takes the default.
        """
        from triportrait.face.open_head import OpenHead
        from triportrait.face.portrait import PortraitOptions, portrait_from_landmarks
        from triportrait.geometry.crops import cut
        from triportrait.real3d.head_models import fitter_of
        from triportrait.real3d.layers import HEAD_CLASSES, published_layers, published_layers_of_classes

        tracker, size = default_tracker() if tracker is None else tracker, self.preset.photo_px
        landmarks = landmarks.copy()
        landmarks[:, :2] -= box[:2]
        landmarks *= size / box[2]
        options = PortraitOptions(size, background_fill="knn")
        open_portrait = portrait_from_landmarks(image, box, cut(image, box, size), landmarks, tracker, default_head(), options)
        painted = self.preset.inpaint_background
        if self.segmenter is None:
            mattes = open_portrait.person_alpha, open_portrait.head_alpha
            layers = published_layers(open_portrait.image, *mattes, landmarks, inpaint_background=painted)
        else:
            classes = self.segmenter(open_portrait.image)
            layers = published_layers_of_classes(open_portrait.image, classes, inpaint_background=painted)
            head_alpha, person_alpha = (mask.astype(np.float32) for mask in (np.isin(classes, HEAD_CLASSES), classes > 0))
            open_portrait = replace(open_portrait, head_alpha=head_alpha, person_alpha=person_alpha)
        torso, background = np.dstack([layers.torso, (255 * layers.torso.any(-1)).astype(np.uint8)]), layers.background
        if self._prepared_layers:
            alpha = open_portrait.torso[..., 3:]
            torso = np.dstack([np.round(open_portrait.torso[..., :3] * (alpha / 255.0)).astype(np.uint8), alpha])
            background = open_portrait.background if painted else background
        prepared = replace(open_portrait, torso=torso, background=background)
        if not isinstance(self.head, OpenHead):
            identity, motion = fitter_of(self.head, size).fit_person(landmarks[None])
            rest = self.head.vertices(np.zeros_like(identity), np.zeros(len(self.head.expression_names), np.float32))
            prepared = replace(
                prepared,
                identity=identity,
                vertex_offset=np.zeros_like(rest),
                motion=motion[0],
                focal=FOCAL_IN_WIDTHS,
                head_model=self.head.name,
            )
        return PaperPortrait(self, prepared, layers, source)

    def motion_of_video(self, path: PathLike, progress: Progress | None = None) -> Motion:
        """Expression and pose of the largest face in a clip. Bounded memory for any length.

        Raises:
            MediaError: not a readable video.
            NoFaceFound: nobody in it.
        """
        from triportrait.face.open_head import OpenHead
        from triportrait.real3d.clip_motion import own_motion_of_video

        if isinstance(self.head, OpenHead):
            return open_motion_of_video(path, FPS, progress, can_choose=False, warp=False)
        return own_motion_of_video(self.head, path, progress)

    def makes_blinks(self, options: PaperOptions) -> bool:
        """Whether audio to motion makes a voice's blinks, rather than that they are drawn into the motion picture."""
        return options.blink_by == "network" or (options.blink_by == "auto" and self.trained_here and not self.published)

    def expressions_of_audio(self, path: PathLike, options: PaperOptions, progress: Progress | None = None) -> Array:
        """Expression rows [t, 64] of a voice at 25 Hz. The sound is read three times and never held.

        Raises:
            MediaError, EmptyMedia: no readable sound, or less than one frame of it.
            MissingPart: the pipeline was built without audio to motion or HuBERT.
        """
        from triportrait.media.audio import AudioReader
        from triportrait.real3d.driver import BLINKS_PER_MINUTE, blink_middles, blink_starts, expressions_of_voice
        from triportrait.real3d.hubert import HubertFeatures, Level
        from triportrait.real3d.pitch import PitchTracker

        own_features = self.audio_to_motion is not None and self.audio_to_motion.config.features == HalvedLogMel.size
        if self.audio_to_motion is None or (self.hubert is None and not own_features):
            raise MissingPart("This pipeline has no audio-to-motion and HuBERT; load it with voice=True to follow a voice.")
        reader = AudioReader.open(path)
        hearing = reader.hearing()
        tracker = PitchTracker()
        samples = 0

        def heard() -> Iterator[Array]:
            nonlocal samples
            for block in reader.blocks(16_000, hearing=hearing):
                tracker.push(block)
                samples += len(block)
                yield block

        level = Level.of(heard())
        pitch_hz = tracker.finish()
        features: HalvedLogMel | HubertFeatures = HalvedLogMel()
        if not own_features:
            assert self.hubert is not None, "checked above"
            features = HubertFeatures(self.hubert(), level)

        def rows() -> Iterator[Array]:
            done = 0
            for block in reader.blocks(16_000, hearing=hearing):
                done += len(block)
                yield features.push(block)
                if progress:
                    progress("listening", done // 640, samples // 640)
            yield features.finish()

        if "mouth" not in self.audio_to_motion.config.amplitudes and options.mouth_amplitude != PaperOptions().mouth_amplitude:
            log.warning("--mouth-amplitude changes nothing: these weights of audio to motion were trained without it")
        blinks = None
        if self.makes_blinks(options):
            frames = -(-samples // 640) + 1
            plan = blink_starts(frames, options.seed, options.blinks_per_minute(BLINKS_PER_MINUTE), published=self.published)
            blinks = blink_middles(frames, *plan)
        parts = list(
            expressions_of_voice(
                self.audio_to_motion,
                rows(),
                pitch_hz,
                mouth_amplitude=options.mouth_amplitude,
                temperature=options.temperature,
                seed=options.seed,
                blinks=blinks,
            )
        )
        if not parts:
            raise EmptyMedia("there is nothing to show: the voice is shorter than one frame; give a longer one")
        return np.concatenate(parts)


class HalvedLogMel:
    """Our own speech features at the 50 rows per second that the audio-to-motion network takes: every second one of the extractor's."""

    #: Width of a row.
    size = 82

    def __init__(self) -> None:
        from triportrait.motion.speech_features import LogMel

        self._extractor, self._odd = LogMel(), 0

    def push(self, samples: Array) -> Array:
        """Rows [k, 82] that these samples complete."""
        return self._halved(self._extractor.push(samples))

    def finish(self) -> Array:
        """What is left."""
        return self._halved(self._extractor.finish())

    def _halved(self, rows: Array) -> Array:
        kept = rows[self._odd :: 2]
        self._odd = (self._odd + len(rows)) % 2
        return kept


class PaperPortrait:
    """One photographed person, ready to be driven; made by :meth:`PaperPipeline.portrait`."""

    def __init__(self, pipeline: PaperPipeline, prepared: PreparedPortrait, layers: PublishedLayers, source: Path | None) -> None:
        self.pipeline, self.prepared, self.layers, self.source = pipeline, prepared, layers, source
        self.model: PaperModel = pipeline.model
        self.state: PaperState = self.model.prepare(prepared, layers.masks)

    def talk(self, audio: PathLike, options: PaperOptions | None = None, progress: Progress | None = None) -> Performance:
        """The portrait says what is on a recording."""
        return self.driven_by(PaperVoiceDriver(self.pipeline, audio, options, progress=progress))

    def drive(self, video: PathLike, options: PaperOptions | None = None, progress: Progress | None = None) -> Performance:
        """The portrait does what the person in a clip does; the clip's sound goes along."""
        return self.driven_by(PaperVideoDriver(self.pipeline, video, options, progress=progress))

    def driven_by(self, driver: Driver) -> Performance:
        """The portrait does what a driver says; its motion must be of the networks' head model."""
        performance = Performance(self, driver)
        if self.pipeline.published:
            first = next(performance.chunks()).expression[0]
            self.state = replace(self.state, avatar=self.pipeline.avatar.with_source_expression(self.state.avatar, first))
        return performance


def _with_random_rays(volume: VolumeRenderer, device: str, seed: int) -> Callable[[TriPlane, torch.Tensor], VolumeRender]:
    """The renderer with samples drawn anew for every frame, as the published code does."""
    import torch

    from triportrait.real3d.sampling import random_positions

    generator = torch.Generator(device).manual_seed(seed)
    config = volume.config
    return lambda planes, cameras: volume(
        planes, cameras, random_positions((len(cameras), config.size_px**2), config.coarse, config.fine, generator)
    )


def _past_empty_space(volume: VolumeRenderer) -> Callable[[TriPlane, torch.Tensor], VolumeRender]:
    """The renderer with each frame's empty cells skipped: what they could hold changes alpha by less than 0.001."""

    def render(planes: TriPlane, cameras: torch.Tensor) -> VolumeRender:
        occupancy = volume.occupancy(planes, threshold=_EMPTY, margin=_EMPTY_MARGIN)
        worth_it = occupancy.cells.float().mean() < _MOSTLY_FULL
        return volume(planes, cameras, occupancy=occupancy if worth_it else None)

    return render


def _channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """Pictures' convolutions run faster with the channels of a pixel side by side; those of volumes stay as they are."""
    import torch

    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def published_crop(landmarks: Array, shape: tuple[int, int]) -> tuple[float, float, float]:
    """(left, top, side) of a square in which the face's box takes a fifth, shrunk to fit the photograph (spec 4, step 1).

    Where the face takes more of a square photograph, that stays whole; others are cut to a square instead of being squeezed.
    """
    height, width = shape
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    box = high - low
    side = float(np.sqrt(box[0] * box[1] / _FACE_AREA))
    if height == width and side > width:
        return 0.0, 0.0, float(width)
    side = min(side, float(min(height, width)))
    left, top = np.clip(0.5 * (low + high) - 0.5 * side, 0.0, (width - side, height - side))
    return float(left), float(top), side


def load_pipeline(
    weights: Path | None = None,
    bfm: Path | None = None,
    hubert: Path | None = None,
    *,
    voice: bool = True,
    device: str = "auto",
    published_behaviour: bool = False,
    seed: int = 0,
    precision: Precision = "auto",
    batch: int = 0,
    compiled: bool = False,
    segmenter: Path | None = None,
    flame: Path | None = None,
    head_threshold: float | None = None,
) -> PaperPipeline:
    """The paper's pipeline from the user's files; see :func:`find_files` for where they are looked for.

    Args:
        weights, bfm, hubert, voice, flame: see :func:`find_files`.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        published_behaviour, seed, precision, batch, compiled: see :class:`PaperPipeline`.
        segmenter: MediaPipe's ``selfie_multiclass_256x256.tflite``, converted; see ``face.segmentation.ClassSegmenter``.
        head_threshold: see :func:`load_networks`.

    Raises:
        MissingPart: a file, an optional package or the GPU is missing.
        WeightsError: a file is damaged or of another kind.
    """
    import torch

    from triportrait.real3d.head_models import load_head
    from triportrait.real3d.hubert import check_hubert, load_hubert

    if device == "cuda" and not torch.cuda.is_available():
        raise MissingPart("There is no CUDA device that PyTorch can use; take --device cpu or auto.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    files = find_files(weights, bfm, hubert, flame=flame, voice=voice)
    head = load_head(files.head_model, files.head)
    speech: Callable[[], torch.nn.Module] | None = None
    if (folder := files.hubert) is not None:
        check_hubert(folder)

        def speech() -> torch.nn.Module:
            network: torch.nn.Module = load_hubert(folder)
            return network.to(device)

    classes = None
    if segmenter is not None:
        from triportrait.face.segmentation import ClassSegmenter

        classes = ClassSegmenter(segmenter)
    preset, networks = load_networks(files, head_threshold)
    trained_here = files.audio_to_motion is not None and "head_model" in described(files.audio_to_motion)
    return PaperPipeline(
        networks,
        preset,
        head,
        speech,
        device=device,
        published_behaviour=published_behaviour,
        seed=seed,
        precision=precision,
        batch=batch,
        compiled=compiled,
        segmenter=classes,
        prepared_layers="head_model" in described(files.torso),
        trained_here=trained_here,
    )
