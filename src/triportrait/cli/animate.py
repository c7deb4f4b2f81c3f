"""``triportrait animate``: a photo and a voice, a video or a motion file become a talking portrait video."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from triportrait.cli.checks import check_refine, check_size, portrait_options
from triportrait.cli.person import PersonParts, PreparedPerson
from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say
from triportrait.cli.voice import VoiceFlags
from triportrait.errors import OptionError
from triportrait.motion.voice_controls import NATURAL

if TYPE_CHECKING:
    from triportrait.background import Background
    from triportrait.motion.options import DriveOptions
    from triportrait.performance import Performance
    from triportrait.real3d.pipeline import PaperOptions
    from triportrait.types import PathLike

    Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Driver:
    """Files that move the portrait."""

    audio: Path | None = None
    """Voice: wav, mp3, flac, m4a, ogg, or a video's sound."""
    driving: Path | None = None
    """Video of a person to imitate."""
    motion: Path | None = None
    """Motion file written by 'triportrait extract' (.npz or .csv)."""

    def with_file(self, path: Path) -> Driver:
        """A copy in which a file given without a flag stands where its flag would put it.

        Raises:
            OptionError: it is a picture, or the flag is given, too.
            MediaError: it cannot be read.
        """
        from triportrait.media.probe import probe
        from triportrait.motion.files import READ_ENDINGS

        kind = "motion" if path.suffix.lower() in READ_ENDINGS else {"audio": "audio", "video": "driving"}.get(probe(path).kind)
        if kind is None:
            raise OptionError(f"'{path}' is a picture and cannot drive the portrait; give a voice, a video or a motion file")
        if getattr(self, kind) is not None:
            raise OptionError(f"'{path}' and --{kind} say the same thing twice; give one of them")
        return replace(self, **{kind: path})

    def files(self) -> list[Path]:
        """Those that are given."""
        return [path for path in (self.audio, self.driving, self.motion) if path is not None]

    def voice(self) -> Path:
        """The voice, where no clip and no motion drives."""
        assert self.audio is not None, "one of the three is given"
        return self.audio

    def check(self) -> None:
        """OptionError for none, or for two that move the same thing."""
        if not self.files():
            raise OptionError("nothing to drive the portrait with; give --audio, --driving or --motion")
        if self.driving is not None and self.motion is not None:
            raise OptionError("--driving and --motion both bring an expression; give one of them")
        if self.audio is not None and self.driving is not None:
            raise OptionError("--audio and --driving both move the mouth; for a voice with a clip's head motion use --audio A --pose V")


@dataclass(frozen=True, kw_only=True)
class Movement(VoiceFlags):
    """The fields of DriveOptions; None stands for the preset's own."""

    head_motion: float | str = NATURAL
    temperature: float | None = None  # type: ignore[assignment]
    """How far chance departs from a voice's most likely motion, 0 to 2. Default: 1; with --preset paper 0.2."""
    pose: str = "driving"
    """Head motion: driving (the clip's own; natural for a voice), still, natural, or a video or motion file to take it from."""
    reference: Literal["neutral", "first"] = "neutral"
    """Which frame of the driving clip counts as the photo's own expression and pose."""
    mouth: Literal["auto", "free", "still"] = "auto"
    """auto: a mouth that seems covered (mask, microphone, hand) stays still; free: it moves all the same; still: it never moves."""
    driver_face: int | None = None
    """Whom to follow in the driving video (or that of --pose), counted from the left, when it shows several. Default: the largest face.
    Behind a cut to several people it is whoever looks most like that person, behind a cut to one it is that one."""

    def given(self) -> dict[str, Any]:
        """The settings by name, without those that are left to the preset."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the video shows, whoever draws it."""

    face: int | None = None
    """Which face, counted from the left, when the photo shows several. Default: the largest."""
    background: str | None = None
    """What stands behind the person: a colour (#204060, white, green, ...), a picture or a video; or transparent, for a .webm, .mov or .zip
    of PNG files. Default: the photo's own."""
    crop: bool = False
    """Write the animated head-and-shoulders square; this is the default."""
    full_frame: bool = False
    """Put the animated head back into the full photograph."""
    debug_panel: bool = False
    """Write source | PNCC | raw render | depth | final side by side."""
    crf: int = 18
    """Video quality, lower is better (0 to 51)."""
    resume: bool = False
    """Keep finished pieces in OUT.parts until the video is complete, and go on from those that an interrupted run has left there."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How our own avatars draw it."""

    quality: Literal["draft", "standard", "high"] = "standard"
    """draft is small and fast; high draws the learned volume finer. Avatar and size follow from it where they are not given."""
    size: int | None = None
    """Side of the animated square in pixels. Default: 512; draft 384."""
    avatar: str | None = None
    """Which avatar draws the head: lifted, oneshot, dual_field, or real3d with weights you bring (real3d:FOLDER); else the quality's."""
    refine: float = 0.0
    """Seconds for fitting the oneshot avatar to the photo first."""
    background_fill: Literal["smooth", "knn"] = "smooth"
    """How the scene behind the person is painted in; knn is the published method."""
    threads: int | None = None
    """Threads that decode and draw. Default: what TRIPORTRAIT_THREADS says, otherwise one for each core."""


@dataclass(frozen=True, kw_only=True)
class MarkFlags:
    """The fields of Marks."""

    label: bool = True
    """Small visible label that the video is generated."""
    watermark: bool = True
    """Invisible watermark in the pixels."""
    manifest: bool = True
    """Signed statement (C2PA) in the file."""
    maker: str | None = None
    """Who makes the video: a name or an id. Default: the one of 'triportrait maker set', if any."""
    consent: str = ""
    """How the person shown agreed, for the signed statement."""


@dataclass(frozen=True, kw_only=True)
class PaperParts:
    """What ``--preset paper`` takes besides."""

    weights: Path | None = None
    """Folder of imported weights. Default: where 'triportrait weights import' puts them."""
    bfm: Path | None = None
    """BFM_model_front.mat, or its folder."""
    flame: Path | None = None
    """FLAME's file, or its folder, for networks that were trained on it."""
    hubert: Path | None = None
    """Folder of HuBERT."""
    segmenter: Path | None = None
    """The published six-class segmenter, converted to .onnx (see docs/guides/published_weights.md). Default: our own mattes."""
    mouth_amplitude: float = 0.45
    """How far a voice opens the mouth, in decimetres."""
    blink_by: Literal["auto", "picture", "network"] = "auto"
    """Who makes a voice's blinks: the motion picture (as published) or audio to motion. auto: the network where it was trained here."""
    pose_start: Literal["photo", "clip"] = "photo"
    """A clip's head motion starts at the photo's pose, or is the clip's own."""
    head_threshold: float | None = None
    """Opacity above which the head hides the background entirely, 0 to 1; more where hair is translucent. Default: the weights', 0.9."""
    published_behaviour: bool = False
    """Do as the published code does where it is defective, for comparison."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What the networks run on."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the networks compute in; auto is bfloat16 on a GPU."""
    batch: int = 0
    """Frames that go through the networks at once; 0 takes what suits the device."""
    compiled: bool = False
    """Compile the networks first (torch.compile), for long videos on a GPU."""

    def files(self) -> list[Path | None]:
        """Files and folders that are named here."""
        return [self.weights, self.bfm, self.flame, self.hubert, self.segmenter]


@dataclass
class Animate:
    """One photo plus a voice, a driving video or a motion file becomes a talking portrait video."""

    photo: Positional[Path]
    """Portrait photo (JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF or HEIC), or an avatar file of 'triportrait portrait save'. With --preset
    talk3d, whose weights are one person, there is no photo: the voice or clip stands here."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Video to write, ending in .mp4; with --background transparent in .webm, .mov or .zip."""
    driver: Positional[Path | None] = None
    """What drives it: a voice, a video of a person, or a motion file; short for --audio, --driving or --motion."""
    preset: Literal["default", "paper", "talk3d"] = "default"
    """paper: Real3D-Portrait's networks with the published weights, which you bring (see 'triportrait weights list'); talk3d: Talk3D's
    networks of one person, yours or of 'triportrait personalize'."""
    driven_by: Driver = field(default_factory=Driver)
    """What drives the portrait. Give one of them, or a voice and a motion file."""
    movement: Movement = field(default_factory=Movement)
    """How the portrait moves. --preset paper takes pose, head_motion, blink, temperature and seed of these, talk3d pose, blink and seed."""
    look: Look = field(default_factory=Look)
    """What the video looks like."""
    drawing: Drawing = field(default_factory=Drawing)
    """How the head is drawn, by all but --preset paper."""
    marks: MarkFlags = field(default_factory=MarkFlags)
    """How the video says that it is generated."""
    paper: PaperParts = field(default_factory=PaperParts)
    """For --preset paper only; weights, device and batch for talk3d, too."""
    person: PersonParts = field(default_factory=PersonParts)
    """For --preset talk3d only."""

    def run(self) -> int:
        from triportrait.concurrency import at_most_threads, thread_count
        from triportrait.kernels_ahead import helpers

        with at_most_threads(self.drawing.threads), helpers(thread_count() - 1):
            return self._run()

    def _run(self) -> int:
        from triportrait.background import Background
        from triportrait.provenance.marks import Marks

        driver = self._driver()
        driver.check()
        self._check_combinations()
        self._check_preset(driver)
        marks = Marks(**vars(self.marks))
        marks.account()
        # What cannot be read or written is found before any work is done.
        background = Background(self.look.background) if self.look.background else None
        prepared = {"paper": self._prepared_paper, "talk3d": self._prepared_person}.get(self.preset, self._prepared)
        perform = prepared(driver, background)
        started = time.perf_counter()
        with ProgressBar() as progress:
            perform(progress).save(
                self.out,
                full_frame=self.look.full_frame,
                debug_panel=self.look.debug_panel,
                background=background,
                marks=marks,
                crf=self.look.crf,
                progress=progress,
                resume=self.look.resume,
            )
        say(f"{self.out}  ({time.perf_counter() - started:.1f} s)")
        return 0

    # -- before the work ---------------------------------------------------------------------------------------------------

    def _driver(self) -> Driver:
        """What drives: the second file, or the only one where the weights are the person."""
        if self.preset != "talk3d":
            return self.driven_by if self.driver is None else self.driven_by.with_file(self.driver)
        if self.driver is not None:
            raise OptionError(f"with --preset talk3d the weights are the person; leave out '{self.photo}' and give the voice or clip alone")
        return self.driven_by.with_file(self.photo)

    def _check_combinations(self) -> None:
        if self.look.crop and self.look.full_frame:
            raise OptionError("--crop and --full-frame exclude each other; give one of them")
        if self.look.full_frame and (self.look.background or self.look.debug_panel):
            raise OptionError("--background and --debug-panel work on the crop; leave out --full-frame")
        if self.look.debug_panel and self.look.background == "transparent":
            raise OptionError("--background transparent shows the person alone; leave out --debug-panel")
        if self.look.resume and self.drawing.refine:
            raise OptionError("--refine differs from run to run, so nothing could go on; refine once with 'triportrait portrait save'")
        check_size(self.drawing.size)
        check_refine(self.drawing.refine)

    def _check_preset(self, driver: Driver) -> None:
        """Refuse settings that the chosen preset would silently leave out."""
        motion = [] if driver.motion is None else ["motion"]
        rule = f"does nothing with --preset {self.preset}; leave it out"
        if self.preset == "paper":
            from triportrait.real3d.pipeline import PaperOptions

            known = {option.name for option in fields(PaperOptions)}
            foreign = [*motion, *changed(self.drawing), *changed(self.movement, besides=known), *changed(self.person)]
        elif self.preset == "talk3d":
            moving = changed(self.movement, besides={"pose", "blink", "seed"})
            look = changed(self.look, besides={"crop", "crf", "resume"})
            foreign = [*motion, *changed(self.drawing), *moving, *look, *changed(self.paper, besides={"weights", "device", "batch"})]
        else:
            foreign, rule = changed(self.paper), "belongs to --preset paper; add that"
            if not foreign:
                foreign, rule = changed(self.person), "belongs to --preset talk3d; add that"
        if foreign:
            raise OptionError(f"--{foreign[0].replace('_', '-')} {rule}")

    def _prepared(self, driver: Driver, background: Background | None) -> Callable[[Progress], Performance]:
        """The work of our own avatars, everything that goes into it being looked at."""
        from triportrait.driver_files import check_option_files
        from triportrait.motion.options import DriveOptions, check_driver_face
        from triportrait.speakers import voice_driver_of

        options = DriveOptions(**self.movement.given())
        if driver.driving is None:
            check_driver_face(options)
        self._check_files(driver, background, options.files())
        check_option_files(options)
        if driver.driving is None and driver.motion is None:
            voice_driver_of(options)
        return partial(self._perform_here, driver, options)

    def _prepared_paper(self, driver: Driver, background: Background | None) -> Callable[[Progress], Performance]:
        """The work of the paper's preset, in the same way."""
        from triportrait.media.avatar_files import looks_like_avatar
        from triportrait.real3d.pipeline import PaperOptions

        if looks_like_avatar(self.photo):
            raise OptionError(f"'{self.photo}' is an avatar file; --preset paper prepares portraits its own way, give it the photo")
        known = {option.name for option in fields(PaperOptions)}
        given = {name: value for name, value in self.movement.given().items() if name in known}
        own = {name: value for name, value in vars(self.paper).items() if name in known}
        options = PaperOptions(**given, **own)
        if self.paper.head_threshold is not None and not 0.0 <= self.paper.head_threshold <= 1.0:
            raise OptionError(f"--head-threshold is {self.paper.head_threshold:g}; use a number from 0 to 1")
        self._check_files(driver, background, options.files())
        options.check_files()
        return partial(self._perform_paper, driver, options)

    def _prepared_person(self, driver: Driver, background: Background | None) -> Callable[[Progress], Performance]:
        """The work of Talk3D's preset, in the same way."""
        given = {name: value for name, value in self.movement.given().items() if name in ("pose", "blink", "seed")}
        person = PreparedPerson(driver.audio, driver.driving, self.person, self.paper.weights, self.paper.device, self.paper.batch, given)
        self._check_files(driver, background, person.files())
        person.check()
        return person

    def _check_files(self, driver: Driver, background: Background | None, named: Sequence[PathLike]) -> None:
        """Look at what goes in, and at the one file that comes out, which is none of that; ``named`` are the files of the options."""
        from triportrait.files import check_readable, refuse_inputs
        from triportrait.media.audio import AudioReader
        from triportrait.media.transparent import check_transparent_output
        from triportrait.media.video import VideoReader, check_crf, check_video_output

        check_crf(self.look.crf)
        for path in (self.photo, *driver.files()):
            check_readable(path)
        if background is not None and background.is_transparent:
            check_transparent_output(self.out, self.look.crf)
        else:
            check_video_output(self.out)
        behind = None if background is None else background.file
        refuse_inputs(self.out, [self.photo, *driver.files(), *named, behind, *self.paper.files()])
        if driver.audio is not None:
            AudioReader.open(driver.audio)
        if driver.driving is not None:
            VideoReader(driver.driving).close()

    # -- the work ----------------------------------------------------------------------------------------------------------

    def _perform_here(self, driver: Driver, options: DriveOptions, progress: Progress) -> Performance:
        from triportrait.driver_files import read_motion
        from triportrait.pipeline import Portrait

        drawing = self.drawing
        motion = None if driver.motion is None else read_motion(driver.motion)
        progress("preparing the portrait", 0, 0)
        options_of_photo = portrait_options(drawing.size, self.look.face, background_fill=drawing.background_fill, quality=drawing.quality)
        portrait = Portrait.from_image(self.photo, options_of_photo, avatar=drawing.avatar, quality=drawing.quality)
        if drawing.refine:
            progress("refining the portrait", 0, 0)
            portrait.refine(drawing.refine)
        if driver.driving is not None:
            return portrait.drive(driver.driving, options, progress=progress)
        if motion is not None:
            sources = {} if driver.motion is None else {"motion": driver.motion}
            return portrait.perform(motion, options, sound=driver.audio, sources=sources, progress=progress)
        assert driver.audio is not None  # see Driver.check
        return portrait.talk(driver.audio, options, progress=progress)

    def _perform_paper(self, driver: Driver, options: PaperOptions, progress: Progress) -> Performance:
        from triportrait.real3d.pipeline import load_pipeline

        parts = self.paper
        progress("loading the networks", 0, 0)
        pipeline = load_pipeline(
            weights=parts.weights,
            bfm=parts.bfm,
            flame=parts.flame,
            hubert=parts.hubert,
            voice=driver.audio is not None,
            device=parts.device,
            published_behaviour=parts.published_behaviour,
            seed=options.seed,
            precision=parts.precision,
            batch=parts.batch,
            compiled=parts.compiled,
            segmenter=parts.segmenter,
            head_threshold=parts.head_threshold,
        )
        progress("preparing the portrait", 0, 0)
        portrait = pipeline.portrait(self.photo, self.look.face)
        if driver.driving is not None:
            return portrait.drive(driver.driving, options, progress=progress)
        assert driver.audio is not None  # see Driver.check and _check_preset
        return portrait.talk(driver.audio, options, progress=progress)


def changed(group: Any, besides: Collection[str] = ()) -> list[str]:
    """Names of the settings of a group that are not at their defaults, without those named in ``besides``."""
    default = type(group)()
    names = (setting.name for setting in fields(group) if setting.name not in besides)
    return [name for name in names if getattr(group, name) != getattr(default, name)]
