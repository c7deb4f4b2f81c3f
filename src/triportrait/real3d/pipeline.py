"""Real3D-Portrait's whole inference with published weights: photograph and voice or clip in, talking portrait out (spec 4).

The weights, the Basel face model and HuBERT belong to their authors and are the user's to bring: see ``triportrait weights list``.
Where the published code is defective (spec 8) this one is not, unless ``published_behaviour`` asks for a comparison: source motion picture
from the first driving expression, random rays, Euler angles added, blinks from frame 0 of every clip on, colours truncated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.drivers import Progress, default_head, default_tracker
from triportrait.drivers import motion_of_video as open_motion_of_video
from triportrait.errors import EmptyMedia, MissingPart, NoFaceFound, OptionError
from triportrait.motion.options import POSES
from triportrait.motion.voice_controls import check_flag, check_seed
from triportrait.performance import Performance
from triportrait.types import FOCAL_IN_WIDTHS, FPS, Array, Motion, MotionFrame, PathLike, PreparedPortrait, RenderedHead, TriPlane

if TYPE_CHECKING:
    import torch

    from triportrait.face.bfm import BfmHead
    from triportrait.face.open_head import OpenHead
    from triportrait.real3d.avatar import Precision
    from triportrait.real3d.layers import PublishedLayers
    from triportrait.real3d.model import PaperFrame, PaperModel, PaperState
    from triportrait.real3d.networks import PaperNetworks
    from triportrait.real3d.volume import VolumeRender, VolumeRenderer


#: Rows of a clip's beginning, every tenth, that the driver's identity is measured on, and rows tracked at a time.
_PERSON_FRAMES, _PERSON_ROWS, _FIT_ROWS = 200, 10, 256
#: Share of the crop that the face's box takes at least (published: ``--min_face_area_percent``).
_FACE_AREA = 0.2
#: Frames that cameras and key points are averaged over.
_WINDOW = 7
#: Opacity of a cell of 1 / 48 that counts as nothing (rays cross 83 cells at most), and cells added around all others: more than a step
#: of the coarse samples, whose densities are averaged with their neighbours'.
_EMPTY, _EMPTY_MARGIN = 1e-5, 3
#: Above this share of occupied cells, skipping costs more than it saves.
_MOSTLY_FULL = 0.7
#: Decimetres; nobody's mouth opens so far.
_WIDEST_MOUTH_DM = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOptions:
    """What a user may turn.

    Args:
        pose: ``still`` (the photograph's), ``natural``, ``driving`` (the clip's own; natural for a voice), or a video.
        mouth_amplitude: 0.9 quantile of the lips' opening that a voice should reach, in decimetres.
        temperature: of the voice's motion; 0 gives the most likely one.
        blink: ``driving`` (drawn blinks for a voice, the clip's own for a clip), ``natural`` (drawn), or ``none``.
        seed: of everything random.
    """

    pose: str = "driving"
    mouth_amplitude: float = 0.45
    temperature: float = 0.2
    blink: str = "driving"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.mouth_amplitude <= _WIDEST_MOUTH_DM:
            raise OptionError(f"--mouth-amplitude is {self.mouth_amplitude:g}; use a number from 0 to {_WIDEST_MOUTH_DM:g}")
        check_flag("temperature", self.temperature)
        if self.blink not in ("driving", "natural", "none"):
            raise OptionError(f"--blink is {self.blink!r}; with the paper's preset use driving, natural or none")
        check_seed(self.seed)

    def files(self) -> tuple[PathLike, ...]:
        """The video that these options name."""
        return () if self.pose in POSES else (self.pose,)

    def check_files(self) -> None:
        """Look at that video, for what would end a performance minutes later.

        Raises:
            OptionError, MediaError: it is missing, or no readable video.
        """
        from triportrait.media.video import VideoReader

        for path in self.files():
            if not Path(path).exists():
                raise OptionError(f"--pose is {path!r}; use driving, still, natural, or a video that exists")
            VideoReader(path).close()


# -- the user's parts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PaperFiles:
    """Where the user's parts lie: weights, the face model (None for weights trained here on the open head), HuBERT's folder (None where
    no voice is needed, or where the weights were trained on our own features)."""

    torso: Path
    audio_to_motion: Path | None
    bfm: Path | None
    hubert: Path | None


def find_files(weights: Path | None = None, bfm: Path | None = None, hubert: Path | None = None, *, voice: bool = True) -> PaperFiles:
    """The files, from the folders given or where ``triportrait weights import`` puts them.

    Args:
        weights: folder with ``real3d_torso.safetensors`` and ``real3d_a2m.safetensors``.
        bfm: ``BFM_model_front.mat`` or its folder.
        hubert: folder with ``config.json`` and ``model.safetensors``.
        voice: whether a voice is to be followed, which needs audio to motion and HuBERT, too.

    Raises:
        MissingPart: one sentence that names all that is missing and how to get it.
    """
    from triportrait.weights.bfm import MODEL_FILE
    from triportrait.weights.home import weights_home

    home = weights_home()
    folder = weights or home
    face = bfm or home / "bfm"
    face = face / MODEL_FILE if face.is_dir() or face.suffix != ".mat" else face
    speech = hubert or home / "hubert"
    torso, talk = folder / "real3d_torso.safetensors", folder / "real3d_a2m.safetensors"
    # Weights that 'triportrait train' made say what they were trained on.
    ours = described(torso).get("head_model") == "open"
    own_features = described(talk).get("speech") == "log_mel"
    wanted = [(torso, "Real3D-Portrait's weights (real3d_torso)")]
    if voice:
        wanted.append((talk, "its audio-to-motion (real3d_a2m)"))
    if not ours:
        wanted.append((face, f"the Basel face model ({MODEL_FILE})"))
    if voice and not own_features:
        wanted.append((speech / "model.safetensors", "HuBERT (hubert)"))
    missing = [f"{name}, not at '{path}'" for path, name in wanted if not path.is_file()]
    if missing:
        raise MissingPart(
            f"The paper's preset lacks {'; '.join(missing)}: 'triportrait weights list' says where their authors publish them, "
            "'triportrait weights import FILE' makes them usable, and --weights, --bfm and --hubert name other places."
        )
    return PaperFiles(torso, talk if voice else None, None if ours else face, speech if voice and not own_features else None)


def described(path: Path) -> dict[str, Any]:
    """The configuration that a weight file of ours carries; empty where there is none. No weight is read."""
    from safetensors import SafetensorError, safe_open

    from triportrait.weights.store import ENTRY

    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {})[ENTRY])["config"]
    except (OSError, KeyError, ValueError, SafetensorError):
        # Whoever loads the file says what is wrong with it.
        return {}


def load_bfm(path: Path) -> BfmHead:
    """The face model with the index and eye files beside it; key points as the published torso was trained with."""
    from triportrait.face.bfm import BfmHead
    from triportrait.weights.bfm import INDEX_FILE

    index = path.with_name(INDEX_FILE)
    eyes = [file for side in ("left", "right") if (file := path.with_name(f"bfm_{side}_eye_faces.npy")).is_file()]
    return BfmHead.from_file(path, index_mp468=index if index.is_file() else None, eye_faces=eyes, published_keypoints=True)


def load_networks(files: PaperFiles) -> tuple[PaperNetworks, dict[str, torch.nn.Module]]:
    """Networks with imported weights, ready to run.

    Raises:
        WeightsError: damaged files, or files of another kind.
    """
    import torch

    from triportrait.real3d.networks import SIZES, build, from_settings
    from triportrait.weights.store import load_weights

    stored = load_weights(files.torso, layout="real3d_torso")
    if "sizes" in stored.config:
        # Trained here: not folded, of any size.
        preset = from_settings(stored.config["sizes"])
    else:
        preset = SIZES[str(stored.config.get("preset", "paper"))]()
    if "image_to_plane" in stored.config:
        preset = replace(preset, image_to_plane=replace(preset.image_to_plane, **stored.config["image_to_plane"]))
    state = dict(stored.tensors)
    if files.audio_to_motion is not None:
        voice = load_weights(files.audio_to_motion, layout="real3d_a2m")
        details: dict[str, Any] = dict(voice.config.get("audio_to_motion", {}))
        if "amplitudes" in details:
            details["amplitudes"] = tuple(details["amplitudes"])
        preset = replace(preset, audio_to_motion=replace(preset.audio_to_motion, **details))
        state |= {f"audio_to_motion.{key}": tensor for key, tensor in voice.tensors.items()}
    with torch.device("meta"):
        networks = build(preset)
    if files.audio_to_motion is None:
        del networks["audio_to_motion"]
    for name, network in networks.items():
        prefix = f"{name}."
        part = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        network.load_state_dict(part, assign=True)
        network.eval().requires_grad_(False)
    return preset, networks


# -- the pipeline ---------------------------------------------------------------------------------------------------------


class PaperPipeline:
    """The paper's parts together; hold one and prepare any number of portraits.

    Args:
        networks: as :func:`load_networks` gives them; put to work on ``device``.
        preset: their sizes.
        head: the Basel face model, with the landmark index.
        hubert: loads transformers' HuBERT, or None where no voice will come. It is let go after each voice: it is larger than all
            other networks together.
        device: ``cpu`` or ``cuda``.
        published_behaviour: do as the published code does where it is defective.
        seed: of the random rays of the published behaviour; their order depends on the batch.
        precision: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is bfloat16 on a GPU.
        batch: frames that go through the networks at once; 0 takes 8 on a GPU and 1 on a CPU.
        segmenter: a picture uint8 [s, s, 3] to the six classes uint8 [s, s] of ``face.tracker.ClassSegmenter``; None splits the person's
            mask by the fitted head and by skin colour.
        compiled: the networks of a frame through ``torch.compile``, which takes minutes at the first frame and needs a C++ compiler.
    """

    def __init__(
        self,
        networks: dict[str, torch.nn.Module],
        preset: PaperNetworks,
        head: BfmHead | OpenHead,
        hubert: Callable[[], Any] | None = None,
        *,
        device: str = "cpu",
        published_behaviour: bool = False,
        seed: int = 0,
        precision: Precision = "auto",
        batch: int = 0,
        compiled: bool = False,
        segmenter: Callable[[Array], Array] | None = None,
    ) -> None:
        from triportrait.face.pncc import PnccRenderer
        from triportrait.real3d.avatar import OneShotAvatar
        from triportrait.real3d.model import PaperModel
        from triportrait.real3d.volume import VolumeRenderer

        self.head, self.preset, self.published = head, preset, published_behaviour
        if batch < 0:
            raise OptionError(f"--batch is {batch}; use a positive whole number, or 0 for what suits the device")
        self.hubert, self.segmenter = hubert, segmenter
        self.batch = batch or (8 if device.startswith("cuda") else 1)
        self.audio_to_motion = networks.get("audio_to_motion")
        parts = {
            name: _channels_last(networks[name].to(device))
            for name in ("image_to_plane", "motion_adapter", "decoder", "htb_super_resolution")
        }
        if compiled:
            import torch

            # Only what runs for every frame; the renderer's shapes depend on what it sees.
            parts |= {name: torch.compile(parts[name]) for name in ("motion_adapter", "htb_super_resolution")}
        volume = VolumeRenderer(parts["decoder"], replace(preset.volume, published_misses=published_behaviour))
        # As the published renderer does: the Basel face, which is open behind, is seen from both sides.
        self._pncc = PnccRenderer(head, preset.photo_px, cull=None if head.name == "bfm" else "back")
        self.avatar = OneShotAvatar(
            parts["image_to_plane"],
            parts["motion_adapter"],
            _with_random_rays(volume, device, seed) if published_behaviour else _past_empty_space(volume),
            self.motion_picture,
            preset.photo_px,
            preset.motion_adapter.pictures,
            precision=precision,
        )
        self.model: PaperModel = PaperModel(self.avatar, parts["htb_super_resolution"], self.key_points, truncate=published_behaviour)

    def motion_picture(self, identity: Array, expression: Array, lid_closing: float = 0.0) -> Array:
        """PNCC of coefficients, the lids closed by a fraction: float32 [3, s, s]."""
        from triportrait.real3d.lids import close_lids

        return close_lids(self._pncc.render(self.head.vertices(identity, expression)), lid_closing)

    def key_points(self, identity: Array, frame: MotionFrame) -> Array:
        """The 68 landmarks [68, 2] of a motion row, in -1..1, y down."""
        from triportrait.face.pncc import PNCC_FOCAL
        from triportrait.geometry.cameras import pose_points, project

        points = self.head.landmarks68(self.head.vertices(identity, frame.expression))
        focal = PNCC_FOCAL if self.head.name == "bfm" else FOCAL_IN_WIDTHS
        pixels, _ = project(pose_points(points, frame.rotation_rad, frame.translation), 1.0, focal)
        return np.clip(2.0 * pixels - 1.0, -1.0, 1.0)

    def portrait(self, photo: PathLike | Array, face: int | None = None) -> PaperPortrait:
        """Prepare a photograph: a file, or uint8 RGB [h, w, 3].

        Raises:
            MediaError, NoFaceFound: see :func:`triportrait.pipeline.prepare`.
        """
        from triportrait.face.portrait import PortraitOptions, portrait_from_landmarks
        from triportrait.face.tracker import choose_face, upright_photo
        from triportrait.geometry.crops import cut
        from triportrait.media.images import composite_over, read_image
        from triportrait.real3d.bfm_fitting import BfmFitter
        from triportrait.real3d.layers import HEAD_CLASSES, published_layers, published_layers_of_classes

        image, name = (photo, "the photo") if isinstance(photo, np.ndarray) else (read_image(photo), Path(photo).name)
        if image.shape[-1] == 4:
            image = composite_over(image)
        tracker, size = default_tracker(), self.preset.photo_px
        image, faces = upright_photo(tracker, image, name)
        landmarks = choose_face(faces, face, name).landmarks.copy()
        box = published_crop(landmarks, image.shape[:2])
        landmarks[:, :2] -= box[:2]
        landmarks *= size / box[2]
        options = PortraitOptions(size, background_fill="knn")
        open_portrait = portrait_from_landmarks(image, box, cut(image, box, size), landmarks, tracker, default_head(), options)
        painted = {"inpaint_torso_layer": self.preset.inpaint_torso, "inpaint_background": self.preset.inpaint_background}
        if self.segmenter is None:
            layers = published_layers(open_portrait.image, open_portrait.person_alpha, open_portrait.head_alpha, landmarks, **painted)
        else:
            classes = self.segmenter(open_portrait.image)
            layers = published_layers_of_classes(open_portrait.image, classes, **painted)
            masks = {"head_alpha": np.isin(classes, HEAD_CLASSES), "person_alpha": classes > 0}
            open_portrait = replace(open_portrait, **{name: mask.astype(np.float32) for name, mask in masks.items()})
        source = None if isinstance(photo, np.ndarray) else Path(photo)
        if self.head.name == "open":
            # Trained here: torso and background as 'triportrait data prepare' makes them.
            rgb, alpha = open_portrait.torso[..., :3], open_portrait.torso[..., 3:]
            torso = np.round(rgb * (alpha / 255.0)).astype(np.uint8)
            layers = replace(layers, torso=torso, background=open_portrait.background)
            return PaperPortrait(self, open_portrait, layers, source)
        identity, motion = BfmFitter(self.head, size).fit_person(landmarks[None])
        prepared = replace(
            open_portrait,
            torso=np.dstack([layers.torso, (255 * layers.torso.any(-1)).astype(np.uint8)]),
            background=layers.background,
            identity=identity,
            vertex_offset=np.zeros_like(self.head.mean),
            motion=motion[0],
            focal=FOCAL_IN_WIDTHS,
            head_model=self.head.name,
        )
        return PaperPortrait(self, prepared, layers, source)

    def motion_of_video(self, path: PathLike, progress: Progress | None = None) -> Motion:
        """Expression and pose of the person in a clip, by the published weights of the fit. Bounded memory for any length.

        Raises:
            MediaError: not a readable video.
            NoFaceFound: nobody in it.
        """
        from triportrait.media.video import VideoReader
        from triportrait.motion.smoothing import smooth_motion
        from triportrait.real3d.bfm_fitting import BfmFitSettings, BfmFitter

        if self.head.name == "open":
            return open_motion_of_video(path, FPS, progress)
        with VideoReader(path) as reader:
            total = max(1, round(reader.seconds * FPS)) if reader.seconds else 0

            def frames() -> Iterator[Array]:
                nonlocal side, corner
                for index, (_, frame) in enumerate(reader.frames(FPS)):
                    if not side:
                        # The whole picture, made square: the fit's camera looks at its middle.
                        side = float(max(frame.shape[:2]))
                        corner = 0.5 * np.array([frame.shape[1] - side, frame.shape[0] - side])
                    yield frame
                    if progress:
                        progress("tracking", index + 1, total)

            side, corner = 0.0, np.zeros(2)
            tracked = default_tracker().track(frames())
            try:
                opening = [row for row, _ in islice(tracked, _PERSON_FRAMES)]
            except NoFaceFound as error:
                raise NoFaceFound(f"'{path}': {error}") from None
            fitter = BfmFitter(self.head, side, BfmFitSettings.video())

            def in_square(rows: list[Array]) -> Array:
                return np.stack(rows)[..., :2] - corner

            identity, _ = fitter.fit_person(in_square(opening[:: max(1, len(opening) // _PERSON_ROWS)]))
            pieces, rows = [], chain(opening, (row for row, _ in tracked))
            while batch := list(islice(rows, _FIT_ROWS)):
                pieces.append(fitter.fit_motion(in_square(batch), identity, FPS))
        names = ("expression", "rotation_rad", "translation", "gaze_rad")
        whole = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names}
        return smooth_motion(pieces[0].with_rows(**whole))

    def expressions_of_audio(self, path: PathLike, options: PaperOptions, progress: Progress | None = None) -> Array:
        """Expression rows [t, 64] of a voice at 25 Hz. The sound is read three times and never held.

        Raises:
            MediaError, EmptyMedia: no readable sound, or less than one frame of it.
            MissingPart: the pipeline was built without audio to motion or HuBERT.
        """
        from triportrait.media.audio import AudioReader
        from triportrait.real3d.driver import expressions_of_voice
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
        features = HalvedLogMel() if own_features else HubertFeatures(self.hubert(), level)

        def rows() -> Iterator[Array]:
            done = 0
            for block in reader.blocks(16_000, hearing=hearing):
                done += len(block)
                yield features.push(block)
                if progress:
                    progress("listening", done // 640, samples // 640)
            yield features.finish()

        parts = list(
            expressions_of_voice(
                self.audio_to_motion, rows(), pitch_hz, mouth_amplitude=options.mouth_amplitude,
                temperature=options.temperature, seed=options.seed,
            )
        )  # fmt: skip
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


@dataclass(frozen=True)
class PaperPerformance(Performance):
    """A :class:`triportrait.performance.Performance` whose rows carry smoothed cameras and key points."""

    rows: Motion | None = None

    def motion(self) -> Motion:
        """All rows in one :class:`Motion`."""
        return self.rows

    def frames(self, debug: bool = False, full_frame: bool = False, background: Any | None = None) -> Iterator[Any]:
        """See :meth:`triportrait.performance.Performance.frames`; debug panels belong to the other avatars.

        Raises:
            OptionError: ``debug`` is asked for.
        """
        if debug:
            raise OptionError("--debug-panel shows the open head; leave it out with the paper's preset")
        return super().frames(False, full_frame, background)

    def _pictures(self, scenes: Iterator[Array] | None) -> Iterator[tuple[MotionFrame, Array, RenderedHead | None]]:
        """Several rows go through the networks at once."""
        model, state = self.portrait.model, self.portrait.state
        rows = chain.from_iterable(self.chunks())
        while batch := list(islice(rows, self.portrait.pipeline.batch)):
            behind = None if scenes is None else list(islice(scenes, len(batch)))
            for row, picture in zip(batch, model.steps(state, batch, behind), strict=True):
                yield row, picture, None


class PaperPortrait:
    """One photographed person, ready to be driven; made by :meth:`PaperPipeline.portrait`."""

    def __init__(self, pipeline: PaperPipeline, prepared: PreparedPortrait, layers: PublishedLayers, source: Path | None) -> None:
        self.pipeline, self.prepared, self.layers, self.source = pipeline, prepared, layers, source
        self.model: PaperModel = pipeline.model
        self.state: PaperState = self.model.prepare(prepared, layers.masks)

    def talk(self, audio: PathLike, options: PaperOptions | None = None, progress: Progress | None = None) -> PaperPerformance:
        """The portrait says what is on a recording."""
        options = options or PaperOptions()
        expression = self.pipeline.expressions_of_audio(audio, options, progress)
        pose = "natural" if options.pose == "driving" else options.pose
        rotation, translation = self._pose(pose, len(expression), options, progress)
        blinks = options.blink != "none"
        return self._performance(expression, rotation, translation, blinks, options, Path(audio), {"voice": Path(audio)})

    def drive(self, video: PathLike, options: PaperOptions | None = None, progress: Progress | None = None) -> PaperPerformance:
        """The portrait does what the person in a clip does; the clip's sound goes along."""
        from triportrait.media.probe import probe
        from triportrait.real3d.driver import pose_on_portrait

        options = options or PaperOptions()
        motion = self.pipeline.motion_of_video(video, progress)
        if options.pose == "driving":
            own = self.prepared.motion
            rotation, translation = pose_on_portrait(motion.rotation_rad, motion.translation, own, published=self.pipeline.published)
        else:
            rotation, translation = self._pose(options.pose, len(motion), options, progress)
        sound = Path(video) if probe(video).has_audio else None
        blinks = options.blink == "natural" or (self.pipeline.published and options.blink != "none")
        return self._performance(motion.expression, rotation, translation, blinks, options, sound, {"driving video": Path(video)})

    def _pose(self, pose: str, frames: int, options: PaperOptions, progress: Progress | None) -> tuple[Array, Array]:
        """Rotation and translation [frames, 3] of the head."""
        from triportrait.motion.natural import idle_motion
        from triportrait.real3d.driver import pose_on_portrait, to_and_fro

        own = self.prepared.motion
        if pose == "still":
            return np.tile(own.rotation_rad, (frames, 1)), np.tile(own.translation, (frames, 1))
        if pose == "natural":
            motion = idle_motion(frames, FPS, seed=options.seed)
            order = np.arange(frames)
        else:
            options.check_files()
            motion = self.pipeline.motion_of_video(pose, progress)
            order = to_and_fro(frames, len(motion))
        rotation, translation = pose_on_portrait(motion.rotation_rad, motion.translation, own, published=self.pipeline.published)
        return rotation[order], translation[order]

    def _performance(
        self, expression: Array, rotation: Array, translation: Array, blinks: bool, options: PaperOptions,
        sound: Path | None, sources: dict[str, Path],
    ) -> PaperPerformance:  # fmt: skip
        from triportrait.real3d.driver import blink_starts, lid_closings
        from triportrait.real3d.lids import closing_of_blink

        frames = len(expression)
        head = self.pipeline.head
        lids = np.zeros(frames, np.float32)
        if blinks:
            starts, lengths = blink_starts(frames, options.seed, published=self.pipeline.published)
            lids = lid_closings(frames, [closing_of_blink(int(length)) for length in lengths], starts)
        motion = Motion(
            expression.astype(np.float32), rotation.astype(np.float32), translation.astype(np.float32), np.zeros((frames, 2), np.float32),
            FPS, head.expression_names, head.name, self.prepared.identity,
        )  # fmt: skip
        if self.pipeline.published:
            self.state = replace(self.state, avatar=self.pipeline.avatar.with_source_expression(self.state.avatar, motion.expression[0]))
        named = {"portrait": self.source} if self.source else {}
        return PaperPerformance(
            self, lambda: iter([self._frames(motion, lids)]), FPS, sound, frames, named | sources, options.files(), rows=motion
        )

    def _frames(self, motion: Motion, lids: Array) -> Iterator[PaperFrame]:
        """Rows with cameras and key points averaged over seven frames (spec 4, steps 6 and 10)."""
        from triportrait.geometry.cameras import camera_from_pose, smooth_cameras
        from triportrait.motion.smoothing import smooth_box
        from triportrait.real3d.model import PaperFrame

        cameras = smooth_cameras([camera_from_pose(row.rotation_rad, row.translation, self.prepared.focal) for row in motion], _WINDOW)
        points = smooth_box(np.stack([self.pipeline.key_points(self.prepared.identity, row) for row in motion]), _WINDOW)
        for index, row in enumerate(motion):
            yield PaperFrame(
                row.expression, row.rotation_rad, row.translation, row.gaze_rad,
                camera=cameras[index], key_points=points[index].astype(np.float32), lid_closing=float(lids[index]),
            )  # fmt: skip


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
) -> PaperPipeline:
    """The paper's pipeline from the user's files; see :func:`find_files` for where they are looked for.

    Args:
        weights, bfm, hubert, voice: see :func:`find_files`.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        published_behaviour, seed, precision, batch, compiled: see :class:`PaperPipeline`.
        segmenter: MediaPipe's ``selfie_multiclass_256x256.tflite``.

    Raises:
        MissingPart: a file, an optional package or the GPU is missing.
        WeightsError: a file is damaged or of another kind.
    """
    import torch

    from triportrait.real3d.hubert import check_hubert, load_hubert

    if device == "cuda" and not torch.cuda.is_available():
        raise MissingPart("There is no CUDA device that PyTorch can use; take --device cpu or auto.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    files = find_files(weights, bfm, hubert, voice=voice)
    if files.bfm is None:
        head = default_head()
    else:
        head = load_bfm(files.bfm)
        head.landmark_bases()  # says at once when the landmark index is missing
    speech = None
    if (folder := files.hubert) is not None:
        check_hubert(folder)

        def speech() -> Any:
            return load_hubert(folder).to(device)

    classes = None
    if segmenter is not None:
        from triportrait.face.tracker import ClassSegmenter

        classes = ClassSegmenter(segmenter)
    preset, networks = load_networks(files)
    return PaperPipeline(
        networks, preset, head, speech, device=device, published_behaviour=published_behaviour, seed=seed,
        precision=precision, batch=batch, compiled=compiled, segmenter=classes,
    )  # fmt: skip
