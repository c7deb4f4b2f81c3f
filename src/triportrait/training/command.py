"""``triportrait train``: from the names of a model and a preset to a run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.errors import MissingPart, OptionError
from triportrait.files import refuse_inputs
from triportrait.training.options import TrainOptions

if TYPE_CHECKING:
    from triportrait.training.data.clips import ClipSet
    from triportrait.training.loop import Recipe, RunResult, Stage
    from triportrait.training.oneshot.views import ViewSet
    from triportrait.training.voice.corpora import Spoken, Tracked

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model that can be trained.

    Args:
        recipes: makes its presets by name.
        build: options, recipe and device -> the stage with its data.
        preset: the one that is meant to be used.
        remedy: how its data is made, for people who gave none.
    """

    recipes: Callable[[], Mapping[str, Callable[[], Recipe]]]
    build: Callable[[TrainOptions, Any, str], Stage]
    preset: str
    remedy: str


# -- our own networks -------------------------------------------------------------------------------------------------------


def _oneshot_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.oneshot.recipe import RECIPES

    return RECIPES


def _oneshot(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.avatar.oneshot.image_to_plane import load_image_to_plane
    from triportrait.training.oneshot.stage import OneshotStage
    from triportrait.training.oneshot.views import read_views

    wrong = [path for path in options.data if not is_packed_views(path)]
    if wrong:
        raise OptionError(f"'{wrong[0]}' is no folder of packed views, from which oneshot learns; {_VIEWS}")
    start = load_image_to_plane(start_file(options.start)) if options.start is not None else None
    views = read_views(options.data, "train", shares=options.shares or None)
    return OneshotStage(recipe, views, read_views(options.data, "val"), start, device)


def _mouth_painter_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.oneshot.mouth_painter import RECIPES

    return RECIPES


def _mouth_painter(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.avatar.mouth.painter_network import load_mouth_painter
    from triportrait.training.oneshot.mouth_painter import MouthPainterStage, read_windows

    _warn_without_held_out(options)
    held_out = read_windows(options.held_out)[0] if options.held_out else None
    start = load_mouth_painter(start_file(options.start)) if options.start is not None else None
    return MouthPainterStage(recipe, read_windows(options.data), held_out, start)


def _voice_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.voice.stage import RECIPES

    return RECIPES


def _voice(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.motion.audio_network import AudioToMotion, load_model
    from triportrait.training.voice.corpora import speech_for
    from triportrait.training.voice.stage import VoiceStage

    speech = speech_for("voice", options.data)
    start = load_model(start_file(options.start)) if options.start is not None else None
    if start is not None and not isinstance(start, AudioToMotion):
        raise OptionError(f"'{options.start}' holds several networks; start from a single one")
    return VoiceStage(speech.spoken, speech.tracked, recipe, held_out=speech.held_out_tracked, start=start)


def _sync_expert_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.voice.sync_expert import RECIPES

    return RECIPES


def _sync_expert(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.motion.sync_expert import load_sync_expert
    from triportrait.training.voice.corpora import speech_for
    from triportrait.training.voice.sync_expert import SyncStage

    speech = speech_for("sync_expert", options.data)
    start = load_sync_expert(start_file(options.start)) if options.start is not None else None
    held_out: list[Spoken | Tracked] = [*speech.held_out_tracked, *speech.held_out_spoken]
    return SyncStage(speech.spoken, speech.tracked, recipe, held_out=held_out, start=start)


def _coverings_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.coverings import RECIPES

    return RECIPES


def _coverings(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.face.cover_network import load_cover_network
    from triportrait.training.coverings import CoveringsStage, read_lower_faces

    _warn_without_held_out(options)
    held_out = read_lower_faces(options.held_out) if options.held_out else None
    start = load_cover_network(start_file(options.start)) if options.start is not None else None
    return CoveringsStage(recipe, read_lower_faces(options.data), held_out, start)


def _parts_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.parts import RECIPES

    return RECIPES


def _parts(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.nn.parts_network import load_parts_network
    from triportrait.training.data.parts import PartsFolder
    from triportrait.training.parts import PartsStage

    _warn_without_held_out(options)
    held_out = PartsFolder.of(options.held_out) if options.held_out else None
    start = load_parts_network(start_file(options.start)) if options.start is not None else None
    return PartsStage(recipe, PartsFolder.of(options.data), held_out, start)


def _warn_without_held_out(options: TrainOptions) -> None:
    if not options.held_out:
        log.warning("no --held-out: nothing tells whether %s learns more than its examples", options.model)


# -- Real3D-Portrait --------------------------------------------------------------------------------------------------------


def _image_to_plane_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.real3d.image_to_plane import RECIPES

    return RECIPES


def _image_to_plane(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.real3d.eg3d_prior import load_generator
    from triportrait.synth.lifted_views import splits_of
    from triportrait.training.data.clips import split_clips
    from triportrait.training.oneshot.views import read_views
    from triportrait.training.real3d.image_to_plane import ImageToPlaneStage

    packed = [path for path in options.data if is_packed_views(path)]
    paths = [path for path in options.data if path not in packed]
    clips, held_out = split_clips(paths) if paths else (None, None)
    sources: list[ClipSet | ViewSet] = [*([clips] if clips else []), *(read_views(path, "train") for path in packed)]
    views = (read_views(path, "val") for path in packed if "val" in splits_of(path))
    judges: list[ClipSet | ViewSet] = [*([held_out] if held_out else []), *views]
    teacher = load_generator(options.teacher) if options.teacher else None
    return ImageToPlaneStage(recipe, sources, judges, options.start, teacher=teacher, discriminator=options.discriminator)


def _motion_adapter_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.real3d.motion_adapter import RECIPES

    return RECIPES


def _motion_adapter(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.training.real3d.motion_adapter import MotionAdapterStage

    clips, held_out = _clips(options)
    if options.start is None and recipe.pretrained:
        log.warning("no --start: image to plane begins with random weights; train real3d.image_to_plane first")
    return MotionAdapterStage(recipe, clips, held_out, options.start, options.discriminator)


def _torso_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.real3d.torso import RECIPES

    return RECIPES


def _torso(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.training.real3d.torso import TorsoStage

    clips, held_out = _clips(options)
    if options.start is None:
        raise OptionError("real3d.torso needs the finished head; give --start with the folder of real3d.motion_adapter")
    return TorsoStage(recipe, clips, held_out, options.start, options.discriminator)


def _audio_to_motion_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.real3d.audio_to_motion import RECIPES

    return RECIPES


def _audio_to_motion(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.training.real3d.audio_to_motion import AudioToMotionStage, VoiceClips

    clips, held_out = _clips(options)
    return AudioToMotionStage(recipe, VoiceClips(clips), VoiceClips(held_out) if held_out else None, options.start)


# -- Talk3D -----------------------------------------------------------------------------------------------------------------


def _talk3d_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.talk3d.stage import RECIPES

    return RECIPES


def _talk3d(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.training.talk3d.examples import PersonalFrames
    from triportrait.training.talk3d.stage import PersonalStage, fitted

    clips, held_out = _clips(options)
    if options.start is None:
        raise OptionError("talk3d needs the person's tuned generator; give --start with the folder 'tuning' of 'triportrait personalize'")
    frames, window = PersonalFrames(clips, recipe.networks.tokens.window), recipe.networks.tokens.window
    judges = PersonalFrames(held_out, window) if held_out is not None else None
    return PersonalStage(fitted(recipe, frames), options.start, frames, judges)


# -- ERLNet -----------------------------------------------------------------------------------------------------------------


def _erlnet_field_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.erlnet.field import RECIPES

    return RECIPES


def _erlnet_field(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.training.data.clips import ClipSet
    from triportrait.training.erlnet.field import FieldStage

    if options.start is not None:
        raise OptionError("erlnet.field begins with empty fields; leave out --start")
    return FieldStage(recipe, ClipSet(options.data))


def _manner_recipes() -> Mapping[str, Callable[[], Recipe]]:
    from triportrait.training.erlnet.manner import RECIPES

    return RECIPES


def _manner(options: TrainOptions, recipe: Any, device: str) -> Stage:
    from triportrait.training.erlnet.clips import read_manner_clips
    from triportrait.training.erlnet.manner import MannerStage

    start = start_file(options.start) if options.start is not None else None
    return MannerStage(recipe, read_manner_clips(options.data), start)


# -- from options to data ---------------------------------------------------------------------------------------------------


def _clips(options: TrainOptions) -> tuple[ClipSet, ClipSet | None]:
    """Clips to learn from and held-out ones."""
    from triportrait.training.data.clips import split_clips

    for path in options.data:
        if is_packed_views(path):
            raise OptionError(f"'{path}' holds packed views, from which {options.model} does not learn; {_CLIPS}")
    return split_clips(options.data)


_CLIPS = "make clips with 'triportrait data prepare VIDEOS -o SHARDS'"
_VIEWS = "make views with 'triportrait data views -o VIEWS'"
_SPEECH = "make speech with 'triportrait data speech -o SPEECH'"
_PERSON = "make clips of one person with 'triportrait personalize VIDEO --prior EG3D -o DIR'; they lie in DIR/clips"
_MOUTHS = "make windows with 'triportrait data mouths -o FILE.npz'"
_MANNERS = "make clips with 'triportrait data manner -o FOLDER'"
_PARTS = "make labelled portraits with 'triportrait data parts -o FOLDER'"
_LOWER_FACES = "make lower faces with 'triportrait data coverings -o FILE.npz'"

#: All that can be trained, by the name of the command line.
MODELS: dict[str, Trainable] = {
    "oneshot": Trainable(_oneshot_recipes, _oneshot, "compact", _VIEWS),
    "mouth_painter": Trainable(_mouth_painter_recipes, _mouth_painter, "compact", _MOUTHS),
    "voice": Trainable(_voice_recipes, _voice, "compact", _SPEECH),
    "sync_expert": Trainable(_sync_expert_recipes, _sync_expert, "compact", _SPEECH),
    "coverings": Trainable(_coverings_recipes, _coverings, "compact", _LOWER_FACES),
    "parts": Trainable(_parts_recipes, _parts, "compact", _PARTS),
    "real3d.image_to_plane": Trainable(_image_to_plane_recipes, _image_to_plane, "small", _CLIPS),
    "real3d.motion_adapter": Trainable(_motion_adapter_recipes, _motion_adapter, "small", _CLIPS),
    "real3d.torso": Trainable(_torso_recipes, _torso, "small", _CLIPS),
    "real3d.audio_to_motion": Trainable(_audio_to_motion_recipes, _audio_to_motion, "small", _CLIPS),
    "talk3d": Trainable(_talk3d_recipes, _talk3d, "paper", _PERSON),
    "erlnet.field": Trainable(_erlnet_field_recipes, _erlnet_field, "small", _CLIPS),
    "erlnet.manner": Trainable(_manner_recipes, _manner, "compact", _MANNERS),
}


# -- from options to a run --------------------------------------------------------------------------------------------------


def model_named(name: str) -> Trainable:
    """What can be trained under this name.

    Raises:
        OptionError: nothing; the sentence lists the names.
    """
    if name not in MODELS:
        raise OptionError(f"there is no model {name!r} to train; the models are {', '.join(MODELS)}")
    return MODELS[name]


def recipe_of(options: TrainOptions) -> Recipe:
    """The preset with what the user changed.

    Raises:
        OptionError: no such model, preset or setting, or a value of another kind.
    """
    model = model_named(options.model)
    known, preset = model.recipes(), options.preset or model.preset
    if preset not in known:
        raise OptionError(f"{options.model} has no preset {preset!r}; it has {', '.join(known)}")
    recipe = known[preset]()
    if options.variant is not None:
        from triportrait.training.real3d.variants import with_variant

        recipe = with_variant(recipe, options.model, options.variant)
    if options.steps is not None:
        recipe = _of_length(recipe, options.steps)
    changes: dict[str, Any] = {}
    for name in ("batch", "accumulate", "precision", "seed"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    for setting in options.settings:
        name, value = _parsed_setting(setting, recipe)
        changes[name] = value
    recipe = replace(recipe, **changes)
    for name in ("batch", "accumulate", "log_every", "save_every", "validate_every"):
        if getattr(recipe, name) < 1:
            raise OptionError(f"{name} is {getattr(recipe, name)}; use at least 1")
    if recipe.seed < 0:
        raise OptionError(f"--seed is {recipe.seed}; use 0 or a positive whole number")
    return recipe


def _of_length(recipe: Recipe, steps: int) -> Recipe:
    from triportrait.training.real3d.heads import HeadRecipe, shortened

    if steps < 1:
        raise OptionError(f"--steps is {steps}; use at least 1")
    return shortened(recipe, steps) if isinstance(recipe, HeadRecipe) else replace(recipe, steps=steps)


def _parsed_setting(setting: str, recipe: Recipe) -> tuple[str, Any]:
    """``name=value`` as a field of the recipe and its new value."""
    names = {field.name for field in fields(recipe)}
    name, equals, text = setting.partition("=")
    if name not in names or not equals:
        raise OptionError(f"--set {setting} names no setting of this recipe; it has {', '.join(sorted(names))}")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    now = getattr(recipe, name)
    kinds = (int, float) if isinstance(now, float) else type(now)
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(now, bool):
        raise OptionError(f"--set {setting}: expected {'a number' if isinstance(now, int | float) else 'something'} like {now!r}")
    return name, value


def is_packed_views(folder: Path) -> bool:
    """Whether a folder holds packed views instead of clips."""
    index = folder / "index.json"
    try:
        return index.is_file() and "lifted_views" in str(json.loads(index.read_text(encoding="utf-8")).get("format", ""))
    except (ValueError, OSError, AttributeError):
        return False


def start_file(start: Path) -> Path:
    """The weights of a folder of an earlier run, or the file itself."""
    if (start / "talk3d_generator.safetensors").exists():
        return start / "talk3d_generator.safetensors"
    return start / "model.safetensors" if start.is_dir() else start


#: Options that some models have, and which these are.
_OWN_OPTIONS = {
    "teacher": ("real3d.image_to_plane",),
    "discriminator": ("real3d.image_to_plane", "real3d.motion_adapter", "real3d.torso"),
    "shares": ("oneshot",),
    "held_out": ("mouth_painter", "coverings", "parts"),
}


def build_stage(options: TrainOptions, recipe: Recipe, device: str) -> Stage:
    """The stage with its data.

    Raises:
        EmptyMedia, MediaError: no data, or of another kind than the model learns from.
        MissingPart: weights that are needed are not there.
        OptionError: options that the model does not have, or paths that are not there.
    """
    model = model_named(options.model)
    for name, owners in _OWN_OPTIONS.items():
        if getattr(options, name) and options.model not in owners:
            raise OptionError(f"--{name.replace('_', '-')} is an option of {', '.join(owners)}; {options.model} has none")
    if not options.data:
        raise OptionError(f"--data is missing; {model.remedy}")
    for path in (*options.data, *options.held_out):
        if not path.exists():
            raise OptionError(f"there is no data at '{path}'; {model.remedy}")
    if options.start is not None and not start_file(options.start).exists():
        raise OptionError(f"there is nothing at '{options.start}' to start from; name the folder of an earlier run")
    return model.build(options, recipe, device)


def join_networks(options: TrainOptions) -> Path:
    """Two finished networks of ``voice`` as one file, ``model.safetensors`` of ``options.out``.

    Raises:
        OptionError: another model, further options, or networks that cannot be joined.
        OutputError: the file cannot be written, or is one of the two.
        WeightsError: one of them is missing, foreign or damaged.
    """
    from triportrait.training.voice.pair import join_voices

    if options.model != "voice":
        raise OptionError(f"--join is an option of voice; {options.model} has none")
    bare = TrainOptions(model=options.model, out=options.out, join=options.join, export=options.export)
    if any(getattr(options, field.name) != getattr(bare, field.name) for field in fields(bare)):
        raise OptionError("--join trains nothing and takes -o and --export alone; leave the other options out")
    sources, out = [start_file(path) for path in options.join], options.out / "model.safetensors"
    refuse_inputs(out, sources)
    join_voices(sources, out)
    return out


def run_training(options: TrainOptions) -> RunResult:
    """Train, or go on.

    Raises:
        TriPortraitError: whatever lies with options, data, weights or the machine, in one sentence.
    """
    import torch

    from triportrait.training.fabric import make_fabric
    from triportrait.training.loop import train_stage

    recipe = recipe_of(options)
    refuse_inputs(options.out, (*options.data, *options.held_out))
    for name in ("model.safetensors", "state.pt"):
        start = options.start / name if options.start is not None and options.start.is_dir() else options.start
        refuse_inputs(options.out / name, [start, options.teacher, options.discriminator])
    fabric = make_fabric(options.device, options.devices, options.nodes)
    fabric.launch()
    if not fabric.is_global_zero:
        logging.getLogger("triportrait").setLevel(logging.ERROR)
    stage = build_stage(options, recipe, str(fabric.device))
    workers = options.workers
    if workers is None:
        # On a CPU data and learning share the cores.
        workers = 8 if fabric.device.type == "cuda" else 0
    try:
        return train_stage(stage, options.out, fabric, workers=workers)
    except torch.OutOfMemoryError:
        raise MissingPart(f"the GPU's memory is too small for {recipe.batch} rows at once; raise --accumulate or lower --batch") from None
