"""``triportrait personalize``: a clip of somebody becomes that person, by EG3D (Talk3D; spec A.3 and A.5)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from triportrait.errors import EmptyMedia, MediaError, MissingPart, NoFaceFound, OptionError
from triportrait.files import check_readable, make_folder, refuse_inputs
from triportrait.training.options import PersonalizeOptions, Progress

if TYPE_CHECKING:
    from triportrait.training.data.clip import SpeechRows
    from triportrait.training.loop import Recipe, RunResult, Stage
    from triportrait.training.talk3d.inversion import InversionRecipe, TuningRecipe

log = logging.getLogger(__name__)

#: One piece of the video in so many, from the end, is held out (published: the last eleventh).
_HELD_OUT_SHARE = 11
#: Sizes: side of the clips' pictures.
_SIZES_PX = {"tiny": 64, "paper": 512}


def personalize(options: PersonalizeOptions, progress: Progress | None = None) -> RunResult:
    """Make clips, invert, tune and train; every part that is done already is left alone, and one that was interrupted goes on.

    Args:
        options: see there.
        progress: called while clips are made.

    Raises:
        TriPortraitError: whatever lies with clip, weights, options or the machine, in one sentence; before any work where it can be known.
    """
    from triportrait.training.command import MODELS
    from triportrait.training.data.clips import split_clips
    from triportrait.training.fabric import make_fabric
    from triportrait.training.loop import train_stage
    from triportrait.training.options import TrainOptions
    from triportrait.training.talk3d.examples import PersonalFrames
    from triportrait.training.talk3d.inversion import InversionStage, TuningStage
    from triportrait.training.talk3d.prior import Generator, style_of

    prior = _checked_prior(options)
    generator = Generator.load(prior)
    fabric = make_fabric(options.device)
    fabric.launch()
    clips = options.out / "clips"
    make_folder(clips)
    make_clips(options, clips, progress)
    inverting, tuning, last = recipes(options)
    frames = PersonalFrames(split_clips([clips])[0])

    def run(stage: Stage, folder: Path) -> RunResult:
        log.info("%s: %d steps", stage.name, stage.recipe.steps)
        return train_stage(stage, folder, fabric)

    inverting = replace(inverting, batch=len(frames.spread(inverting.batch)))
    result = run(InversionStage(inverting, generator, frames), options.out / "inversion")
    if result.finished:
        # Anew: a stage freezes what it does not train.
        generator, style = Generator.load(prior), style_of(options.out / "inversion")
        result = run(TuningStage(tuning, generator, frames, style), options.out / "tuning")
    if result.finished:
        values = TrainOptions(
            model="talk3d", data=(clips,), out=options.out, preset=options.preset, start=options.out / "tuning", device=options.device
        )
        result = run(MODELS["talk3d"].build(values, last, str(fabric.device)), options.out)
    return result


def recipes(options: PersonalizeOptions) -> tuple[InversionRecipe, TuningRecipe, Recipe]:
    """Of inversion, tuning and the stage talk3d."""
    from triportrait.training.command import recipe_of
    from triportrait.training.options import TrainOptions
    from triportrait.training.talk3d.inversion import InversionRecipe, TuningRecipe

    inverting, tuning = InversionRecipe(seed=options.seed), TuningRecipe(seed=options.seed)
    if options.preset == "tiny":
        inverting = replace(inverting, steps=20, samples=100, log_every=1, offset_after=4)
        tuning = replace(tuning, steps=20, log_every=1)
    for name, steps in (("inversion", options.inversion_steps), ("tuning", options.tuning_steps)):
        if steps is not None and steps < 1:
            raise OptionError(f"--{name}-steps is {steps}; use at least 1")
    inverting = replace(inverting, steps=options.inversion_steps or inverting.steps)
    tuning = replace(tuning, steps=options.tuning_steps or tuning.steps)
    values = TrainOptions(
        model="talk3d", data=(options.clip,), out=options.out, preset=options.preset, steps=options.steps, seed=options.seed
    )
    return inverting, tuning, recipe_of(values)


def _checked_prior(options: PersonalizeOptions) -> Path:
    """The generator's file, once nothing is seen that would end the run hours later."""
    from triportrait.media.probe import probe
    from triportrait.talk3d.speech import check_recogniser

    prior = options.prior
    if prior is None:
        raise OptionError("--prior is missing, and without EG3D no person can be made yet; give imported EG3D weights")
    check_readable(options.clip)
    if options.preset not in _SIZES_PX:
        raise OptionError(f"--preset is {options.preset!r}; use {' or '.join(_SIZES_PX)}")
    found = probe(options.clip)
    if found.kind != "video":
        raise MediaError(f"'{options.clip}' is no video; give one of the person, with sound")
    if not found.has_audio:
        raise MediaError(f"'{options.clip}' has no sound, from which the person's lips are learned; give a video with sound")
    if not prior.is_file():
        raise MissingPart(
            f"There is no generator at '{prior}'; 'triportrait weights fetch eg3d' gets EG3D and 'triportrait weights import FILE' "
            "makes it usable."
        )
    if options.wav2vec2 is not None:
        check_recogniser(options.wav2vec2)
    recipes(options)
    refuse_inputs(options.out, [options.clip, prior])
    return prior


def make_clips(options: PersonalizeOptions, folder: Path, progress: Progress | None = None) -> int:
    """Tracked pieces of the video, one in a file; those that are there stay. Memory holds one piece.

    Args:
        options: the run.
        folder: of the files.
        progress: called after every piece.

    Returns:
        How many pieces there are.

    Raises:
        NoFaceFound, EmptyMedia: nothing of the video can be used; the sentence says why.
        MediaError: it is damaged.
    """
    from triportrait.training.data.clip import PrepareSettings, UnusableClip, pieces_of, prepare_clip
    from triportrait.training.data.clips import write_clips
    from triportrait.training.data.sources import find_videos
    from triportrait.training.talk3d.examples import personal_speech

    settings = PrepareSettings(size_px=_SIZES_PX[options.preset], need_sound=True)
    (source,) = find_videos(options.clip)
    pieces = pieces_of(source, settings)
    speech: SpeechRows | None = None
    held_out, why = len(pieces) - len(pieces) // _HELD_OUT_SHARE, ""
    for number, piece in enumerate(pieces):
        target = folder / f"{'train' if number < held_out else 'val'}-{number:05d}.tar"
        if not target.exists():
            speech = speech or personal_speech(options.wav2vec2)
            try:
                clip, facts = prepare_clip(piece, settings, speech)
            except (UnusableClip, NoFaceFound) as error:
                why = str(error)
                log.warning("piece %d of '%s' is left out: %s", number + 1, options.clip, why)
            else:
                if facts.note:
                    log.warning("piece %d of '%s': %s", number + 1, options.clip, facts.note)
                write_clips(target, [clip])
        if progress is not None:
            progress("preparing", number + 1, len(pieces))
    made = len(list(folder.glob("train-*.tar")))
    if not made:
        raise EmptyMedia(f"nothing of '{options.clip}' can be learned from ({why}); give another video of the person")
    return made
