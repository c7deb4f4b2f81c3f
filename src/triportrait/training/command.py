"""``triportrait train``: from names of a stage and a preset to a run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.errors import MissingPart, OptionError
from triportrait.files import refuse_inputs
from triportrait.training.oneshot import recipe as oneshot_recipe

if TYPE_CHECKING:
    from triportrait.training.loop import Recipe, RunResult, Stage

log = logging.getLogger(__name__)

#: Where the data of a stage comes from, for people who gave something else.
_PREPARE = "make clips with 'triportrait data prepare VIDEOS -o SHARDS'"


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What a user may say about a run; None leaves it to the preset.

    Args:
        stage: image_to_plane, motion_adapter, torso or audio_to_motion.
        preset: a name of the stage's recipes.
        data: folders or files with clips, or with packed views.
        out: folder of the run.
        start: file or folder of an earlier stage.
        teacher: imported EG3D weights, for image_to_plane with the paper's networks.
        steps, batch, accumulate, precision, seed: of the recipe.
        settings: further fields of the recipe, ``name=value`` with the value as JSON.
        device, devices, nodes: where; see :func:`triportrait.training.fabric.make_fabric`.
        workers: processes that make data ahead.
        stop_after: seconds after which the run is saved and left.
        plain: True trains without Lightning whatever is asked for; for boxes with torch alone.
    """

    stage: str
    preset: str
    data: tuple[Path, ...]
    out: Path
    start: Path | None = None
    teacher: Path | None = None
    steps: int | None = None
    batch: int | None = None
    accumulate: int | None = None
    precision: str | None = None
    seed: int | None = None
    settings: tuple[str, ...] = ()
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int | None = None
    stop_after: float | None = None
    plain: bool | None = None


def recipes(stage: str) -> dict[str, Callable[[], Recipe]]:
    """Presets of a stage by name.

    Raises:
        OptionError: there is no such stage.
    """
    if stage == "image_to_plane":
        from triportrait.training.real3d import image_to_plane

        compact = {name: make for name, make in oneshot_recipe.RECIPES.items() if name != "tiny"}
        return {**image_to_plane.RECIPES, **compact, "compact_tiny": oneshot_recipe.tiny}
    if stage == "motion_adapter":
        from triportrait.training.real3d import motion_adapter

        return dict(motion_adapter.RECIPES)
    if stage == "torso":
        from triportrait.training.real3d import torso

        return dict(torso.RECIPES)
    if stage == "audio_to_motion":
        from triportrait.training.real3d import audio_to_motion

        return dict(audio_to_motion.RECIPES)
    raise OptionError(f"there is no stage {stage!r}; the stages are image_to_plane, motion_adapter, torso and audio_to_motion")


def recipe_of(options: TrainOptions) -> Recipe:
    """The preset with what the user changed.

    Raises:
        OptionError: no such preset or setting, or a value of another kind.
    """
    from triportrait.training.real3d.heads import HeadRecipe, shortened

    known = recipes(options.stage)
    if options.preset not in known:
        raise OptionError(f"{options.stage} has no preset {options.preset!r}; it has {', '.join(known)}")
    recipe = known[options.preset]()
    if options.steps is not None:
        if options.steps < 1:
            raise OptionError(f"--steps is {options.steps}; use at least 1")
        recipe = shortened(recipe, options.steps) if isinstance(recipe, HeadRecipe) else replace(recipe, steps=options.steps)
    changes: dict[str, Any] = {}
    for name in ("batch", "accumulate", "precision", "seed"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    names = {field.name for field in fields(recipe)}
    for setting in options.settings:
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
        changes[name] = value
    recipe = replace(recipe, **changes)
    for name in ("batch", "accumulate", "log_every", "save_every", "validate_every"):
        if getattr(recipe, name) < 1:
            raise OptionError(f"{name} is {getattr(recipe, name)}; use at least 1")
    if recipe.seed < 0:
        raise OptionError(f"--seed is {recipe.seed}; use 0 or a positive whole number")
    return recipe


def is_packed_views(folder: Path) -> bool:
    """Whether the folder holds lifted views instead of clips."""
    index = folder / "index.json"
    try:
        return index.is_file() and "lifted_views" in str(json.loads(index.read_text(encoding="utf-8")).get("format", ""))
    except (ValueError, OSError, AttributeError):
        return False


def build_stage(options: TrainOptions, recipe: Recipe, device: str) -> Stage:
    """The stage with its data.

    Raises:
        EmptyMedia, MediaError: no data, or of another kind than the stage learns from.
        MissingPart: weights that are needed are not there.
    """
    from triportrait.training.oneshot.recipe import ImageToPlaneRecipe
    from triportrait.training.oneshot.stage import CompactStage
    from triportrait.training.oneshot.views import read_views

    if not options.data:
        raise OptionError("--data is missing; " + _PREPARE)
    for path in options.data:
        if not path.exists():
            raise OptionError(f"there is no data at '{path}'; {_PREPARE}")
    packed = [path for path in options.data if path.is_dir() and is_packed_views(path)]
    clips = [path for path in options.data if path not in packed]
    if isinstance(recipe, ImageToPlaneRecipe):
        if clips or not packed:
            raise OptionError(
                f"the preset {options.preset} learns from folders of packed views (scripts/pack_lifted_views.py); "
                f"'{(clips or packed)[0]}' is not that; for clips take the preset small or paper"
            )
        from triportrait.avatar.oneshot.image_to_plane import load_image_to_plane

        start = load_image_to_plane(options.start) if options.start else None
        return CompactStage(recipe, read_views(packed, "train"), read_views(packed, "val"), start, device)
    if packed and options.stage != "image_to_plane":
        raise OptionError(f"'{packed[0]}' holds packed views, from which only image_to_plane learns; {_PREPARE}")
    return _paper_stage(options, recipe, packed, clips)


def _paper_stage(options: TrainOptions, recipe: Any, packed: list[Path], paths: list[Path]) -> Stage:
    from triportrait.synth.lifted_views import splits_of
    from triportrait.training.data.clips import split_clips
    from triportrait.training.oneshot.views import read_views

    if options.start is not None and not options.start.exists():
        raise OptionError(f"there is nothing at '{options.start}' to start from; name the folder of an earlier stage")
    clips, held_out = split_clips(paths) if paths else (None, None)
    if options.stage == "image_to_plane":
        from triportrait.training.real3d.image_to_plane import ImageToPlaneStage, load_teacher

        sources = [*([clips] if clips else []), *(read_views(path, "train") for path in packed)]
        judges = [*([held_out] if held_out else []), *(read_views(path, "val") for path in packed if "val" in splits_of(path))]
        teacher = load_teacher(options.teacher) if options.teacher else None
        return ImageToPlaneStage(recipe, sources, judges, options.start, teacher=teacher)
    if options.teacher is not None:
        raise OptionError(f"--teacher is EG3D for the stage image_to_plane; {options.stage} has none")
    if options.stage == "audio_to_motion":
        from triportrait.training.real3d.audio_to_motion import AudioToMotionStage, VoiceClips

        return AudioToMotionStage(recipe, VoiceClips(clips), VoiceClips(held_out) if held_out else None, options.start)
    if options.stage == "torso":
        from triportrait.training.real3d.torso import TorsoStage

        if options.start is None:
            raise OptionError("the stage torso needs the finished head; give --start with the folder of the stage motion_adapter")
        return TorsoStage(recipe, clips, held_out, options.start)
    from triportrait.training.real3d.motion_adapter import MotionAdapterStage

    if options.start is None:
        log.warning("no --start: image to plane begins with random weights; train the stage image_to_plane first")
    return MotionAdapterStage(recipe, clips, held_out, options.start)


def run_training(options: TrainOptions) -> RunResult:
    """Train, or go on.

    Raises:
        TriPortraitError: whatever lies with options, data, weights or the machine, in one sentence.
    """
    import torch

    from triportrait.training.fabric import make_fabric
    from triportrait.training.loop import train_stage

    recipe = recipe_of(options)
    refuse_inputs(options.out, options.data)
    for name in ("model.safetensors", "state.pt"):
        start = options.start / name if options.start is not None and options.start.is_dir() else options.start
        refuse_inputs(options.out / name, [start, options.teacher])
    fabric = make_fabric(options.device, options.devices, options.nodes, plain=options.plain)
    fabric.launch()
    if not fabric.is_global_zero:
        logging.getLogger("triportrait").setLevel(logging.ERROR)
    stage = build_stage(options, recipe, str(fabric.device))
    workers = options.workers
    if workers is None:
        # On a CPU data and learning share the cores.
        workers = 8 if fabric.device.type == "cuda" else 0
    try:
        return train_stage(stage, options.out, fabric, stop_after=options.stop_after, workers=workers)
    except torch.OutOfMemoryError:
        raise MissingPart(f"the GPU's memory is too small for {recipe.batch} rows at once; raise --accumulate or lower --batch") from None
