"""A person of Talk3D from the user's files, ready to be driven: Talk3D's networks joined to EG3D's generator and renderer (spec A.6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from triportrait.drivers import Progress
from triportrait.errors import MissingPart, WeightsError
from triportrait.nn.settings import rebuilt
from triportrait.performance import Performance
from triportrait.real3d.eg3d_prior import Prior, load_generator
from triportrait.real3d.parts import described
from triportrait.real3d.pipeline import HalvedLogMel
from triportrait.real3d.volume import VolumeRenderer
from triportrait.talk3d import networks as talk3d
from triportrait.talk3d.driver import PersonalDriver, PersonalOptions
from triportrait.talk3d.model import PersonalAvatar, PersonalModel
from triportrait.talk3d.person import BOUNDS, Person, cameras_of_angles, cameras_of_labels, make_person
from triportrait.talk3d.speech import SoundClasses, check_recogniser, load_recogniser
from triportrait.types import Driver, PathLike
from triportrait.weights.home import weights_home
from triportrait.weights.store import StoredWeights, load_weights

if TYPE_CHECKING:
    from triportrait.nn.speech_networks import Level
    from triportrait.talk3d.tokens import PersonalTokens

#: Layouts a generator may have: the person's own, or one that nobody tuned.
GENERATORS = ("talk3d_generator", "eg3d")
#: Speech features that weights may have been trained on; published ones have no word for it.
LOG_MEL, WAV2VEC2 = "log_mel", "wav2vec2"


@dataclass(frozen=True, slots=True)
class PersonalFiles:
    """Where a person's parts lie; turns and landmarks are None where the user has none, the recogniser where none is needed."""

    networks: Path
    generator: Path
    person: Path
    cameras: Path
    rotation: Path | None
    landmarks: Path | None
    recogniser: Path | None


def find_files(weights: Path | None = None, wav2vec2: Path | None = None) -> PersonalFiles:
    """The files of a person.

    Args:
        weights: folder as ``triportrait weights import -o`` or ``triportrait personalize -o`` fills it; None takes the usual place.
        wav2vec2: folder with ``config.json`` and ``model.safetensors``; None looks beside the weights, then in the usual place.

    Raises:
        MissingPart: one sentence that names all that is missing and how to get it.
    """
    home = weights_home()
    folder = weights or home
    networks, generator, person, cameras, rotation, landmarks = (
        folder / f"{name}.safetensors"
        for name in ("talk3d", "talk3d_generator", "talk3d_person", "talk3d_cameras", "talk3d_rotation", "talk3d_landmarks")
    )
    recogniser = wav2vec2 or next((place / WAV2VEC2 for place in (folder, home) if (place / WAV2VEC2).is_dir()), folder / WAV2VEC2)
    wanted = [
        (networks, "the person's networks (Talk3D's <epoch>_<iteration>.pt or *_tune.pt)"),
        (generator, "the tuned generator (G_tune.pkl)"),
        (person, "the person's style (inversion_w_person.pt)"),
        (cameras, "the cameras (inversion_0-0_angles.pt)"),
    ]
    hears_classes = speech_of(networks) == WAV2VEC2
    if hears_classes:
        wanted.append((recogniser / "model.safetensors", "wav2vec2 ('triportrait weights fetch wav2vec2')"))
    missing = [f"{name}, not at '{path}'" for path, name in wanted if not path.is_file()]
    if missing:
        raise MissingPart(
            f"The preset talk3d lacks {'; '.join(missing)}: 'triportrait weights import FOLDER -o DIR' makes the files of Talk3D's authors "
            "usable, 'triportrait personalize CLIP --prior EG3D -o DIR' makes a person of a clip, --weights and --wav2vec2 name the places."
        )
    return PersonalFiles(
        networks,
        generator,
        person,
        cameras,
        rotation if rotation.is_file() else None,
        landmarks if landmarks.is_file() else None,
        recogniser if hears_classes else None,
    )


def speech_of(networks: Path) -> str:
    """Which speech features weights were trained on; published ones on wav2vec2's classes."""
    return str(described(networks).get("speech", WAV2VEC2))


class PersonalPipeline:
    """A person ready to be driven; what a :class:`triportrait.performance.Performance` asks of a portrait.

    Args:
        model: draws the person.
        features: makes the extractor of speech rows from the level of a recording.
        window: entries of a speech window.
    """

    def __init__(self, model: PersonalModel, features: Callable[[Level], Any], window: int = 8) -> None:
        self.model, self._features, self._window = model, features, window
        self.prepared = model.rest_portrait()
        self.state = model.prepare(self.prepared)
        self.source: Path | None = None

    def talk(self, audio: PathLike, options: PersonalOptions | None = None, progress: Progress | None = None) -> Performance:
        """The person says what is on a recording."""
        return self.driven_by(self._driver(audio, options, progress, is_clip=False))

    def drive(self, video: PathLike, options: PersonalOptions | None = None, progress: Progress | None = None) -> Performance:
        """The person says what is said in a clip, and moves head and lids like whoever is seen there."""
        return self.driven_by(self._driver(video, options, progress, is_clip=True))

    def driven_by(self, driver: Driver) -> Performance:
        """The person does what a driver says. Without speech windows (any driver but :class:`PersonalDriver`) the lips rest."""
        return Performance(self, driver)

    def _driver(self, source: PathLike, options: PersonalOptions | None, progress: Progress | None, *, is_clip: bool) -> PersonalDriver:
        person = self.model.avatar.person
        return PersonalDriver(person, source, self._features, self._window, options, is_clip=is_clip, progress=progress)


def load_person(weights: Path | None = None, wav2vec2: Path | None = None, *, device: str = "auto", batch: int = 0) -> PersonalPipeline:
    """A person of the user's files; see :func:`find_files`.

    Args:
        weights, wav2vec2: see there.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        batch: frames that go through the networks at once; 0 takes 8 on a GPU and 1 on a CPU.

    Raises:
        MissingPart: a file, an optional package or the GPU is missing.
        WeightsError: a file is damaged, of another kind, or does not fit the others.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingPart("There is no CUDA device that PyTorch can use; take --device cpu or auto.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    files = find_files(weights, wav2vec2)
    if files.recogniser is not None:
        check_recogniser(files.recogniser)
    stored = load_weights(files.networks, layout="talk3d")
    sizes = talk3d.from_settings(stored.config["sizes"]) if "sizes" in stored.config else talk3d.personal()
    prior, decoder = load_generator(files.generator, GENERATORS)
    networks = talk3d.build(sizes)
    for name, network in (*networks.items(), ("super_resolution", prior.super_resolution)):
        _take(network, stored, name, files.networks, must=name in networks)
    for network in (*networks.values(), prior, decoder):
        network.to(device).eval().requires_grad_(False)
    settings = described(files.generator).get("volume", {})
    renderer = VolumeRenderer(decoder, rebuilt(VolumeRenderer.Config(bounds=BOUNDS), settings))
    person = _person(files, prior, device)
    if tuple(person.planes.planes.shape[2:]) != (sizes.delta_plane.plane_channels, *(2 * [sizes.delta_plane.plane_side])):
        raise WeightsError(f"'{files.networks}' and '{files.generator}' have planes of different sizes; use the files of one person.")
    avatar = PersonalAvatar(cast("PersonalTokens", networks["tokens"]), networks["delta_plane"], renderer, person)
    model = PersonalModel(avatar, prior.super_resolve, batch=batch or (8 if device == "cuda" else 1))
    # The planes are there: what made them is not needed any more.
    del prior.synthesis.blocks, prior.mapping
    features = _recogniser(files.recogniser, sizes.tokens.speech_features, device) if files.recogniser else lambda _: HalvedLogMel()
    return PersonalPipeline(model, features, sizes.tokens.window)


def _take(network: torch.nn.Module, stored: StoredWeights, name: str, path: Path, *, must: bool) -> None:
    """Weights of one of the networks of a file; a super-resolution only where the file has a tuned one."""
    state = {key.removeprefix(f"{name}."): value for key, value in stored.tensors.items() if key.startswith(f"{name}.")}
    if not state and not must:
        return
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"'{path}' does not fit its own sizes ({str(error).splitlines()[0]}); import it again.") from None


@torch.inference_mode()
def _person(files: PersonalFiles, prior: Prior, device: str) -> Person:
    """P_ID and what belongs to it: the planes of the person's one style, computed once."""
    style = load_weights(files.person, layout="talk3d_person").tensors["style"].to(device)
    if len(style) != prior.config.style:
        raise WeightsError(f"'{files.person}' has a style of {len(style)} numbers where {prior.config.style} are needed; import it again.")
    styles = style[None, None].expand(1, prior.synthesis.layers, -1).contiguous()
    tracks = load_weights(files.cameras, layout="talk3d_cameras").tensors
    cameras = cameras_of_labels(tracks["labels"].numpy()) if "labels" in tracks else cameras_of_angles(tracks["angles_rad"].numpy())
    rotation, points = (
        None if path is None else load_weights(path, layout=layout).tensors[key].numpy()
        for path, layout, key in (
            (files.rotation, "talk3d_rotation", "rotation_deg"),
            (files.landmarks, "talk3d_landmarks", "landmarks"),
        )
    )
    return make_person(prior.planes(styles), styles, cameras, rotation, points)


def _recogniser(folder: Path, classes: int, device: str) -> Callable[[Level], SoundClasses]:
    """Loads wav2vec2 for each recording, and lets it go: it is larger than all other networks together."""

    def features(level: Level) -> SoundClasses:
        extractor = SoundClasses(load_recogniser(folder).to(device), level)
        if extractor.size != classes:
            raise WeightsError(f"'{folder}' tells {extractor.size} sounds apart where the person's networks know {classes}; name another.")
        return extractor

    return features
