"""The command line. Nothing heavy is imported before a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg, subcommand

from triportrait.concurrency import own_standard_error
from triportrait.errors import MotionFileError, OptionError, OutputError, TriPortraitError, WeightsError
from triportrait.terminal import escaped, exit_code, mend_streams, one_line, say, say_lines, tell
from triportrait.training.options import Model, MouthsOptions, PairsOptions, PeopleOptions, SpeechOptions, TrainOptions, ViewsOptions

if TYPE_CHECKING:
    from triportrait.background import Background
    from triportrait.face.portrait import PortraitOptions
    from triportrait.training.data.views import Packed
    from triportrait.types import PathLike


@dataclass
class Animate:
    """One photo plus a voice, a driving video or a motion file becomes a talking portrait video."""

    photo: Positional[Path]
    """Portrait photo (JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF or HEIC), or an avatar file of 'triportrait portrait save'."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Video to write, ending in .mp4."""
    driver: Positional[Path | None] = None
    """What drives it: a voice, a video of a person, or a motion file; short for --audio, --driving or --motion."""
    audio: Path | None = None
    """Voice: wav, mp3, flac, m4a, ogg, or a video's sound."""
    driving: Path | None = None
    """Video of a person to imitate."""
    motion: Path | None = None
    """Motion file written by 'triportrait extract' (.npz or .csv)."""
    pose: str = "driving"
    """Head motion: driving (the clip's own; natural for a voice), still, natural, or a video or motion file to take it from."""
    background: str | None = None
    """What stands behind the person: a colour (#204060, white, green, ...), a picture or a video. Default: the photo's own."""
    background_fill: Literal["smooth", "knn"] = "smooth"
    """How the scene behind the person is painted in; knn is the published method."""
    mouth_gain: float = 1.0
    """How far the mouth moves."""
    blink: str = "driving"
    """natural, none, driving (the clip's own), or blinks per minute."""
    head_motion: float | str = 1.0
    """Amount of natural head motion; or a video or motion file to take it from; or a folder of them, of which the nearest pose is taken."""
    expressiveness: float = 1.0
    """Brows and other signs of prosody, for voices."""
    eye_contact: float = 0.9
    """Share of the head's turns that the eyes counter (0 to 1), for voices."""
    gaze_motion: float = 1.0
    """Looks aside and other movements of the eyes, for voices."""
    emotion: Literal["neutral", "happy", "sad", "angry", "surprised"] = "neutral"
    """Laid over any motion; lips that touch go on touching."""
    emotion_strength: float = 0.7
    """0 to 1."""
    style: Path | None = None
    """Manner of speaking, for voices: a video or motion file of the person to speak like."""
    controls: Path | None = None
    """Controls over time, for voices: a file of 'triportrait motion', edited; its control columns take the place of the flags."""
    reference: Literal["neutral", "first"] = "neutral"
    """Which frame of the driving clip counts as the photo's own expression and pose."""
    face: int | None = None
    """Which face, counted from the left, when the photo shows several. Default: the largest."""
    driver_face: int | None = None
    """Whom to follow in the driving video (or that of --pose), counted from the left, when it shows several. Default: the largest face."""
    crop: bool = False
    """Write the animated head-and-shoulders square; this is the default."""
    full_frame: bool = False
    """Put the animated head back into the full photograph."""
    debug_panel: bool = False
    """Write source | PNCC | raw render | depth | final side by side."""
    quality: Literal["draft", "standard", "high"] = "standard"
    """draft is small and fast; high draws the learned volume finer. Avatar and size follow from it where they are not given."""
    size: int | None = None
    """Side of the animated square in pixels. Default: 512; draft 384."""
    avatar: str | None = None
    """Which avatar draws the head: lifted or oneshot. Default: the quality's."""
    refine: float = 0.0
    """Seconds for fitting the oneshot avatar to the photo first."""
    label: bool = True
    """Small visible label that the video is generated."""
    watermark: bool = True
    """Invisible watermark in the pixels."""
    manifest: bool = True
    """Signed statement (C2PA) in the file."""
    crf: int = 18
    """Video quality, lower is better (0 to 51)."""
    seed: int = 0
    """Of everything random."""
    preset: Literal["default", "paper"] = "default"
    """paper: Real3D-Portrait's networks with the published weights, which you bring (see 'triportrait weights list')."""
    weights: Path | None = None
    """paper: folder of imported weights. Default: where 'triportrait weights import' puts them."""
    bfm: Path | None = None
    """paper: BFM_model_front.mat, or its folder."""
    hubert: Path | None = None
    """paper: folder of HuBERT."""
    segmenter: Path | None = None
    """paper: MediaPipe's selfie_multiclass_256x256.tflite, as the published code has it. Default: our own mattes."""
    mouth_amplitude: float = 0.45
    """paper: how far a voice opens the mouth, in decimetres."""
    temperature: float | None = None
    """How far chance departs from a voice's most likely motion, 0 to 2. Default: 1; with --preset paper 0.2."""
    published_behaviour: bool = False
    """paper: do as the published code does where it is defective, for comparison."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """paper: what the networks run on."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """paper: what the networks compute in; auto is bfloat16 on a GPU."""
    batch: int = 0
    """paper: frames that go through the networks at once; 0 takes what suits the device."""
    compiled: bool = False
    """paper: compile the networks first (torch.compile), for long videos on a GPU."""

    def run(self) -> int:
        if self.driver is not None:
            self._name_driver(self.driver)
        chosen = [name for name in ("audio", "driving", "motion") if getattr(self, name) is not None]
        if not chosen:
            raise OptionError("nothing to drive the portrait with; give --audio, --driving or --motion")
        if self.driving is not None and self.motion is not None:
            raise OptionError("--driving and --motion both bring an expression; give one of them")
        if self.audio is not None and self.driving is not None:
            raise OptionError("--audio and --driving both move the mouth; for a voice with a clip's head motion use --audio A --pose V")
        if self.crop and self.full_frame:
            raise OptionError("--crop and --full-frame exclude each other; give one of them")
        if self.full_frame and (self.background or self.debug_panel):
            raise OptionError("--background and --debug-panel work on the crop; leave out --full-frame")
        _check_size(self.size)
        if not 0 <= self.crf <= 51:
            raise OptionError(f"--crf is {self.crf}; use a number from 0 (lossless) to 51")
        if self.out.suffix.lower() not in (".mp4", ".m4v"):
            raise OutputError(f"'{self.out}' should end in .mp4; the video is written in that format")
        from triportrait.background import Background
        from triportrait.drivers import check_option_files, read_motion
        from triportrait.files import check_readable
        from triportrait.media.audio import AudioReader
        from triportrait.media.video import VideoReader, check_video_output
        from triportrait.motion.options import DriveOptions
        from triportrait.pipeline import Portrait
        from triportrait.provenance.marks import Marks

        self._check_preset()
        _check_refine(self.refine)
        # What cannot be read or written is found before any work is done.
        drivers = (self.audio, self.driving, self.motion)
        for path in (self.photo, *drivers):
            if path is not None:
                check_readable(path)
        background = Background(self.background) if self.background else None
        pose = None if self.pose in ("driving", "still", "natural") else self.pose
        behind = None if background is None else background.file
        _check_output(self.out, [self.photo, *drivers, pose, behind, self.weights, self.bfm, self.hubert, self.segmenter])
        check_video_output(self.out)
        if self.preset == "paper":
            return self._run_paper(background)
        options = DriveOptions(
            self.pose, self.mouth_gain, self.blink, self.head_motion, self.expressiveness, self.reference, self.seed,
            self.eye_contact, self.gaze_motion, 1.0 if self.temperature is None else self.temperature, self.emotion,
            self.emotion_strength, self.style, self.controls, self.driver_face,
        )  # fmt: skip
        if self.driver_face is not None and self.driving is None and options.pose_source in ("driving", "still", "natural"):
            raise OptionError("--driver-face chooses a person in a video, and none is given; leave it out")
        _check_output(self.out, options.files())
        check_option_files(options)
        if self.audio is not None:
            AudioReader.open(self.audio)
        if self.driving is not None:
            VideoReader(self.driving).close()
        motion = None if self.motion is None else read_motion(self.motion)
        started = time.perf_counter()
        with _progress() as progress:
            progress("preparing the portrait", 0, 0)
            options_of_photo = _portrait_options(self.size, self.face, self.background_fill, self.quality)
            portrait = Portrait.from_image(self.photo, options_of_photo, self.avatar, self.quality)
            if self.refine:
                progress("refining the portrait", 0, 0)
                portrait.refine(self.refine)
            if self.driving is not None:
                performance = portrait.drive(self.driving, options, progress)
            elif motion is not None:
                performance = portrait.perform(motion, options, sound=self.audio, sources={"motion": self.motion}, progress=progress)
            else:
                performance = portrait.talk(self.audio, options, progress)
            performance.save(
                self.out, full_frame=self.full_frame, debug_panel=self.debug_panel, background=background,
                marks=Marks(self.label, self.watermark, self.manifest), crf=self.crf, progress=progress,
            )  # fmt: skip
        say(f"{self.out}  ({time.perf_counter() - started:.1f} s)")
        return 0

    def _name_driver(self, path: Path) -> None:
        """Put a file given without a flag where its flag would."""
        from triportrait.media.probe import probe
        from triportrait.motion.files import READ_ENDINGS

        kind = "motion" if path.suffix.lower() in READ_ENDINGS else {"audio": "audio", "video": "driving"}.get(probe(path).kind)
        if kind is None:
            raise OptionError(f"'{path}' is a picture and cannot drive the portrait; give a voice, a video or a motion file")
        if getattr(self, kind) is not None:
            raise OptionError(f"'{path}' and --{kind} say the same thing twice; give one of them")
        setattr(self, kind, path)

    def _check_preset(self) -> None:
        """Refuse settings that the chosen preset would silently leave out."""
        paper = ("weights", "bfm", "hubert", "mouth_amplitude", "published_behaviour")
        paper += ("segmenter", "device", "precision", "batch", "compiled")
        others = ("motion", "background_fill", "mouth_gain", "head_motion", "expressiveness", "reference", "debug_panel", "size", "avatar")
        others += ("quality", "refine", "driver_face")
        others += ("eye_contact", "gaze_motion", "emotion", "emotion_strength", "style", "controls")
        foreign = others if self.preset == "paper" else paper
        given = [name for name in foreign if getattr(self, name) != type(self).__dataclass_fields__[name].default]
        if given:
            flag = f"--{given[0].replace('_', '-')}"
            rule = "does nothing with --preset paper; leave it out" if self.preset == "paper" else "belongs to --preset paper; add that"
            raise OptionError(f"{flag} {rule}")

    def _run_paper(self, background: Background | None) -> int:
        from triportrait.media.avatar_files import looks_like_avatar
        from triportrait.provenance.marks import Marks
        from triportrait.real3d.pipeline import PaperOptions, load_pipeline

        if looks_like_avatar(self.photo):
            raise OptionError(f"'{self.photo}' is an avatar file; --preset paper prepares portraits its own way, give it the photo")
        options = PaperOptions(
            self.pose, self.mouth_amplitude, 0.2 if self.temperature is None else self.temperature, self.blink, self.seed
        )
        started = time.perf_counter()
        with _progress() as progress:
            progress("loading the networks", 0, 0)
            pipeline = load_pipeline(
                self.weights, self.bfm, self.hubert, voice=self.audio is not None, device=self.device,
                published_behaviour=self.published_behaviour, seed=self.seed, precision=self.precision, batch=self.batch,
                compiled=self.compiled, segmenter=self.segmenter,
            )  # fmt: skip
            progress("preparing the portrait", 0, 0)
            portrait = pipeline.portrait(self.photo, self.face)
            if self.driving is not None:
                performance = portrait.drive(self.driving, options, progress)
            else:
                performance = portrait.talk(self.audio, options, progress)
            performance.save(
                self.out, full_frame=self.full_frame, background=background,
                marks=Marks(self.label, self.watermark, self.manifest), crf=self.crf, progress=progress,
            )  # fmt: skip
        say(f"{self.out}  ({time.perf_counter() - started:.1f} s)")
        return 0


@dataclass
class Extract:
    """Measure the motion of the person in a video and save it, to look at, edit and reuse."""

    video: Positional[Path]
    """Video of one person."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Motion file: .npz or .csv (ours, editable), .json, or .livelink.csv (ARKit-52 for Live Link Face)."""
    driver_face: int | None = None
    """Whom to follow, counted from the left, when the video shows several people. Default: the largest face."""

    def run(self) -> int:
        from triportrait.drivers import motion_of_video
        from triportrait.files import check_readable
        from triportrait.motion.files import write_motion
        from triportrait.motion.options import DriveOptions

        check_readable(self.video)
        _check_motion_output(self.out, [self.video])
        with _progress() as progress:
            motion = motion_of_video(self.video, progress=progress, face=DriveOptions(driver_face=self.driver_face).driver_face)
        write_motion((motion,), self.out, inputs=[self.video])
        say(f"{self.out}  ({len(motion)} frames)")
        return 0


@dataclass
class MotionCommand:
    """Turn a voice into motion (ARKit curves, head, gaze) without any portrait."""

    audio: Positional[Path]
    """Voice: wav, mp3, flac, m4a, ogg, or a video's sound."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Motion file: .npz or .csv (ours, editable), .json, or .livelink.csv (ARKit-52 for Live Link Face)."""
    mouth_gain: float = 1.0
    """How far the mouth moves."""
    expressiveness: float = 1.0
    """Brows, nods and other signs of prosody."""
    head_motion: float = 1.0
    """Amount of head motion."""
    blink: str = "natural"
    """natural, none, or blinks per minute."""
    eye_contact: float = 0.9
    """Share of the head's turns that the eyes counter (0 to 1)."""
    gaze_motion: float = 1.0
    """Looks aside and other movements of the eyes."""
    emotion: Literal["neutral", "happy", "sad", "angry", "surprised"] = "neutral"
    """Lips that touch go on touching."""
    emotion_strength: float = 0.7
    """0 to 1."""
    style: Path | None = None
    """Manner of speaking: a video or motion file of the person to speak like."""
    controls: Path | None = None
    """Controls over time: a file of this command, edited; its control columns take the place of the flags."""
    temperature: float = 1.0
    """How far chance departs from the most likely motion, 0 to 2."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> int:
        from triportrait.drivers import motion_of_audio, voice_settings
        from triportrait.files import check_readable
        from triportrait.media.audio import AudioReader
        from triportrait.motion.controls import ControlTrack
        from triportrait.motion.files import write_motion
        from triportrait.motion.options import DriveOptions

        check_readable(self.audio)
        _check_motion_output(self.out, [self.audio, self.style, self.controls])
        options = DriveOptions(
            "driving", self.mouth_gain, self.blink, self.head_motion, self.expressiveness, "neutral", self.seed, self.eye_contact,
            self.gaze_motion, self.temperature, self.emotion, self.emotion_strength, self.style, self.controls,
        )  # fmt: skip
        from triportrait.drivers import check_option_files

        check_option_files(options)
        AudioReader.open(self.audio)
        with _progress() as progress:
            settings = voice_settings(options, progress)
            started = time.perf_counter()
            track = ControlTrack(settings.controls(), settings.curves)
            inputs = [self.audio, *options.files()]
            frames = write_motion(motion_of_audio(self.audio, settings), self.out, track, inputs=inputs)
        seconds = time.perf_counter() - started
        say(f"{self.out}  ({frames} frames, {seconds:.1f} s, {frames / 25 / seconds:.0f}x real time)")
        return 0


@dataclass
class Evaluate:
    """Measure quality by a protocol: reenact (first frame performs its own clip), cross (another clip), audio (its sound), table N."""

    protocol: Positional[Literal["reenact", "cross", "audio", "table"]]
    """Which protocol; table 1, 2 and 4 put our rows beside those printed in the Real3D-Portrait paper."""
    clips: Path
    """Folder of videos."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """JSON report; a Markdown table and plots are written beside it."""
    number: Positional[Literal["1", "2", "4"] | None] = None
    """Which table, after 'table'."""
    avatar: str = "static,similarity,mesh2d,depth_warp,lifted,oneshot"
    """Names separated by commas."""
    every: int = 5
    """Every n-th frame is measured."""
    sheets: bool = False
    """Also write a contact sheet per clip."""
    limit: int | None = None
    """At most so many clips."""
    metric_weights: Path | None = None
    """Folder with the weights of LPIPS, FID, CSIM and Sync (docs/evaluation.md); without it they are null."""
    jobs: int = 1
    """Clips at a time, each in a process of its own (about 1 GB each)."""
    cache: Path | None = None
    """Folder in which what was tracked on the clips is kept for later runs."""
    plots: bool = True
    """Also draw the means as PNG."""
    seconds: float = 10.0
    """audio: at most so much of each clip."""
    pose: Literal["natural", "still", "clip"] = "natural"
    """audio: head motion made up, none, or the clip's own (then pictures are compared, too)."""
    seed: int = 0
    """audio: of the driver."""
    variant: tuple[str, ...] = ()
    """table 4: ROW=AVATAR for a row of the ablation that there is a model for."""

    def run(self) -> int:
        from triportrait.evaluation.command import run_protocol

        with _progress() as progress:
            run_protocol(self, lambda p: progress(f"{p.clip} ({p.clip_index + 1}/{p.clips}) {p.stage}", p.done, p.total))
        table = self.out.with_suffix(".md")
        say_lines(table.read_text(encoding="utf-8") if table.exists() else str(self.out))
        return 0


@dataclass
class DataPrepare:
    """Turn videos of talking people into training shards. Interrupted, the same line goes on; what fails is in report.csv, exit code 3."""

    videos: Positional[Path]
    """Folder of videos (CelebV-HQ, TalkingHead-1KH and VoxCeleb2 as published are recognised), or one video."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for shards, index.json and report.csv."""
    layout: Literal["auto", "folder", "celebv_hq", "talkinghead_1kh", "voxceleb2"] = "auto"
    """How the folder is laid out."""
    size: int = 512
    """Side of the pictures in pixels."""
    clip_seconds: float = 4.0
    """Longer videos are cut into clips of this length; memory grows with it."""
    minimum_fps: float = 20.0
    """Slower videos are refused."""
    hubert: Path | None = None
    """Folder of HuBERT for speech features. Default: built-in log-mel features."""
    need_sound: bool = False
    """Refuse clips without sound."""
    workers: int = 2
    """Processes of this machine; about 1 GB each."""
    ray: str | None = None
    """Address of a Ray cluster that does the work instead (auto, or HOST:PORT)."""
    videos_per_shard: int = 64
    """Videos whose clips share a shard."""
    retry_failed: bool = False
    """Begin clips that failed in earlier runs again."""

    def run(self) -> int:
        from triportrait.training.data.clip import PrepareSettings
        from triportrait.training.data.prepare import PrepareOptions, prepare

        settings = PrepareSettings(
            self.size, self.clip_seconds, self.minimum_fps, hubert=str(self.hubert) if self.hubert else None, need_sound=self.need_sound
        )
        options = PrepareOptions(
            self.videos, self.out, self.layout, settings, self.workers, self.ray,
            videos_per_shard=self.videos_per_shard, retry_failed=self.retry_failed,
        )  # fmt: skip
        try:
            with _progress("clips/s") as progress:
                summary = prepare(options, progress)
        except KeyboardInterrupt:
            tell("triportrait: interrupted; the same line goes on where this one ended")
            return 130
        say(f"{self.out}  ({summary.prepared} clips in {summary.shards} shards, {summary.new} of them new)")
        if summary.failed:
            tell(f"triportrait: {summary.failed} clips failed; {self.out / 'report.csv'} says why")
        return 3 if summary.failed else 0


@dataclass
class DataVerify:
    """Check a folder of shards: sizes, hashes, counts, and that every clip is complete."""

    shards: Positional[Path]
    """Folder that 'triportrait data prepare' wrote."""

    def run(self) -> int:
        from triportrait.training.data.shards import verify

        wrong = verify(self.shards)
        say_lines("\n".join(wrong) if wrong else f"{self.shards}: all is well")
        return 2 if wrong else 0


@dataclass
class DataViews:
    """Pack views of lifted portraits and of procedural heads, for 'train oneshot'."""

    options: OmitArgPrefixes[ViewsOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the shards; give each kind a folder of its own to weigh them with --shares."""

    def run(self) -> int:
        from triportrait.training.data.views import pack_views

        return _packed(pack_views, self.options, self.out, "rows")


@dataclass
class DataPairs:
    """Pack pairs of real frames of one person, for 'train oneshot'."""

    options: OmitArgPrefixes[PairsOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the shards."""

    def run(self) -> int:
        from triportrait.training.data.pairs import pack_pairs

        return _packed(pack_pairs, self.options, self.out, "rows")


@dataclass
class DataMouths:
    """Make windows of drawn mouths and what they should look like, for 'train mouth_painter'."""

    options: OmitArgPrefixes[MouthsOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """File to write, ending in .npz."""

    def run(self) -> int:
        from triportrait.training.data.mouths import pack_mouths

        return _packed(pack_mouths, self.options, self.out, "windows")


@dataclass
class DataPeople:
    """Make clips of synthetic people, for 'train real3d.*' where there are no videos."""

    options: OmitArgPrefixes[PeopleOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the shards."""

    def run(self) -> int:
        from triportrait.training.data.synthetic import pack_people

        return _packed(pack_people, self.options, self.out, "clips")


@dataclass
class DataSpeech:
    """Make speech with the times of its phonemes, and sound with tracked lips, for 'train voice' and 'train sync_expert'."""

    options: OmitArgPrefixes[SpeechOptions]
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the clips; clips that are there are kept, so the same line goes on where an interrupted one ended."""

    def run(self) -> int:
        from triportrait.training.voice.speech import pack_speech

        logging.getLogger("triportrait").setLevel(logging.INFO)
        with _progress("clips/s") as progress:
            count = pack_speech(self.options, self.out, progress)
        say(f"{self.out}  ({count} clips)")
        return 0


def _packed(pack: Callable[..., Packed], options: object, out: Path, what: str) -> int:
    """Run a packer; 3 when it left something out."""
    logging.getLogger("triportrait").setLevel(logging.INFO)
    with _progress("items/s") as progress:
        result = pack(options, out, progress)
    say(f"{out}  ({result.made} {what})")
    if result.left_out:
        tell(f"triportrait: {result.left_out} sources could not be used and were left out")
    return 3 if result.left_out else 0


@dataclass
class Data:
    """Training data: from videos (prepare, verify), and for the networks that we ship (views, pairs, mouths, speech, people)."""

    action: (
        Annotated[DataPrepare, subcommand("prepare")]
        | Annotated[DataVerify, subcommand("verify")]
        | Annotated[DataViews, subcommand("views")]
        | Annotated[DataPairs, subcommand("pairs")]
        | Annotated[DataMouths, subcommand("mouths")]
        | Annotated[DataSpeech, subcommand("speech")]
        | Annotated[DataPeople, subcommand("people")]
    )

    def run(self) -> int:
        return self.action.run()


@dataclass
class Train:
    """Train a network, or go on where a killed or interrupted run stopped. See docs/guides/training.md."""

    model: Positional[Model]
    """What to train."""
    data: tuple[Path, ...]
    """What to learn from: folders of clips, packed views or speech, or files of mouths (all from 'triportrait data')."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder of the run: checkpoint, model, log, curve, validation pictures."""
    preset: str | None = None
    """tiny (a try), compact (our networks), small (the paper's networks at 256 px), paper, or a variant; a wrong name lists them.
    Default: compact or small."""
    start: Path | None = None
    """Folder or model.safetensors of an earlier run."""
    teacher: Path | None = None
    """Imported EG3D weights, the paper's teacher of real3d.image_to_plane."""
    shares: tuple[float, ...] = ()
    """How much of the batches of oneshot comes from each folder. Default: every row is drawn alike."""
    held_out: tuple[Path, ...] = ()
    """Files of mouths that mouth_painter is judged by."""
    steps: int | None = None
    """Length of the run; what happens at a step moves along."""
    batch: int | None = None
    """Rows of a step, over all devices."""
    accumulate: int | None = None
    """Parts that a device computes its rows in, for small memories."""
    precision: Literal["fp32", "bf16"] | None = None
    """Of the computations; weights stay in single precision."""
    seed: int | None = None
    """Of everything random."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """Another setting of the recipe, name=value; may be given several times."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    devices: int = 1
    """Devices of this machine."""
    nodes: int = 1
    """Machines."""
    workers: int | None = None
    """Processes that make data ahead. Default: 8 with a GPU, else 0."""

    def run(self) -> int:
        from triportrait.training.command import run_training

        logging.getLogger("triportrait").setLevel(logging.INFO)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        result = run_training(TrainOptions(settings=values.pop("set"), **values))
        if not result.speaks:
            return 0
        if result.interrupted:
            tell(f"triportrait: stopped and saved after step {result.step}; the same line goes on from there")
            return 130
        say(f"{self.out}  ({result.step} steps)")
        return 0


@dataclass
class PortraitSave:
    """Prepare a photo once and for all: an avatar file, which 'triportrait animate' takes in place of the photo."""

    photo: Positional[Path]
    """Portrait photo (JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF or HEIC), or an avatar file to refine further."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Avatar file to write; any name, .avatar by custom."""
    refine: float = 0.0
    """Seconds for fitting the oneshot avatar to the photo; the result is kept in the file."""
    face: int | None = None
    """Which face, counted from the left, when the photo shows several. Default: the largest."""
    size: int | None = None
    """Side of the animated square in pixels. Default: 512."""
    background_fill: Literal["smooth", "knn"] = "smooth"
    """How the scene behind the person is painted in; knn is the published method."""

    def run(self) -> int:
        from triportrait.files import check_readable
        from triportrait.pipeline import save_portrait

        _check_size(self.size)
        _check_refine(self.refine)
        check_readable(self.photo)
        _check_output(self.out, [self.photo])
        started = time.perf_counter()
        save_portrait(self.photo, self.out, _portrait_options(self.size, self.face, self.background_fill), self.refine)
        say(f"{self.out}  ({time.perf_counter() - started:.1f} s)")
        return 0


@dataclass
class PortraitShow:
    """Tell what is in an avatar file."""

    file: Positional[Path]
    """Avatar file."""

    def run(self) -> int:
        from triportrait.media.avatar_files import describe_avatar

        say_lines(describe_avatar(self.file))
        return 0


@dataclass
class PortraitCommand:
    """Avatar files: photos prepared once and for all."""

    action: Annotated[PortraitSave, subcommand("save")] | Annotated[PortraitShow, subcommand("show")]

    def run(self) -> int:
        return self.action.run()


@dataclass
class Detect:
    """Tell whether a video was generated: watermark in the pixels, signed statement in the file."""

    file: Positional[Path]
    """Video to look at."""

    def run(self) -> int:
        from triportrait.media.video import VideoReader
        from triportrait.provenance.detect import detect

        with VideoReader(self.file) as reader:
            say_lines(detect((frame for _, frame in reader.frames(None)), self.file))
        return 0


@dataclass
class WeightsList:
    """What others have published that can be used here, under which licence, and what of it is imported."""

    def run(self) -> int:
        from triportrait.weights.overview import listing

        say_lines(listing())
        return 0


@dataclass
class WeightsImport:
    """Turn published checkpoints (Real3D-Portrait, EG3D, Basel face model) into files of ours. Nothing in them is executed."""

    paths: Positional[tuple[Path, ...]]
    """Checkpoint files, or folders that hold them."""
    out: Annotated[Path | None, arg(aliases=("-o",))] = None
    """Folder to write to. Default: where the presets look for weights."""
    network: str | None = None
    """Which network of a file that holds several: D for EG3D's discriminator."""

    def run(self) -> int:
        from triportrait.weights.importers import import_checkpoint, importable

        if not self.paths:
            raise WeightsError("nothing to import; name a checkpoint file or a folder that holds some")
        for source in [found for path in self.paths for found in importable(path)]:
            say_lines(import_checkpoint(source, self.out, network=self.network))
        return 0


@dataclass
class WeightsVerify:
    """Check imported weights to the last number."""

    paths: Positional[tuple[Path, ...]] = ()
    """Files of ours. Default: everything that is imported."""

    def run(self) -> int:
        from triportrait.weights.overview import verify

        lines, sound = verify(list(self.paths))
        say_lines("\n".join(lines))
        return 0 if sound else 2


@dataclass
class WeightsDescribe:
    """Count the parameters of a preset's networks."""

    preset: Literal["paper", "compact", "personal", "tiny"] = "paper"
    """paper: beside the figures of the paper's Table 6; personal: Talk3D's networks of one person."""
    ablations: bool = False
    """The switches of the paper's Table 4 besides."""

    def run(self) -> int:
        from triportrait.presets import describe, describe_ablations

        say_lines(describe(self.preset))
        if self.ablations:
            say_lines(describe_ablations())
        return 0


@dataclass
class WeightsFetch:
    """Download what the catalogue names from its authors, a mirror or a folder; goes on after an interruption."""

    name: Positional[str]
    """Name in 'triportrait weights list'."""
    mirror: str | None = None
    """Address of a folder with the files under their published names."""
    from_folder: Path | None = None
    """Folder of this machine to copy from instead; nothing is downloaded."""
    into: Path | None = None
    """Folder to write to."""

    def run(self) -> int:
        from triportrait.weights.fetch import fetch

        with _progress() as progress:
            for path in fetch(self.name, mirror=self.mirror, from_folder=self.from_folder, into=self.into, progress=progress):
                say(path)
        return 0


@dataclass
class Weights:
    """Weights that others have published: list, fetch, import, verify, describe."""

    action: (
        Annotated[WeightsList, subcommand("list")]
        | Annotated[WeightsFetch, subcommand("fetch")]
        | Annotated[WeightsImport, subcommand("import")]
        | Annotated[WeightsVerify, subcommand("verify")]
        | Annotated[WeightsDescribe, subcommand("describe")]
    )

    def run(self) -> int:
        return self.action.run()


@dataclass
class Doctor:
    """Versions, models and devices; what is missing and how to get it."""

    def run(self) -> int:
        from triportrait.doctor import report

        lines, healthy = report()
        say_lines("\n".join(lines))
        return 0 if healthy else 1


Command = (
    Annotated[Animate, subcommand("animate")]
    | Annotated[PortraitCommand, subcommand("portrait")]
    | Annotated[Extract, subcommand("extract")]
    | Annotated[MotionCommand, subcommand("motion")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Data, subcommand("data")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Detect, subcommand("detect")]
    | Annotated[Weights, subcommand("weights")]
    | Annotated[Doctor, subcommand("doctor")]
)


class _Warnings(logging.Handler):
    """Each warning once: files are looked at before the work and read in it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and not self._is_new(self.format(record)):
            return
        tell(self.format(record))

    def _is_new(self, message: str) -> bool:
        is_new = message not in self.said
        self.said.add(message)
        return is_new


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code. An input at fault is one sentence on standard error and exit code 2."""
    mend_streams()
    logging.basicConfig(level=logging.WARNING, format="triportrait: %(message)s", handlers=[_Warnings()])
    logging.getLogger("triportrait.compiling").setLevel(logging.INFO)  # a wait of a minute wants a word
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["--version"], ["-V"]):
        from triportrait import __version__

        say(__version__)
        return exit_code()
    own_standard_error()
    code = _run(_parsed(arguments))
    return code or exit_code()


def _parsed(arguments: list[str]) -> Command:
    def parse() -> Command:
        return tyro.cli(
            Command, prog="triportrait", args=arguments or ["--help"], description="One photo and a voice become a talking 3D portrait.",
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.HelptextFromCommentsOff),
        )  # fmt: skip

    try:
        if arguments == [escaped(argument) for argument in arguments]:
            return parse()
        # tyro repeats what it does not understand, which a file's name may have brought in.
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                return parse()
        finally:
            for line in said.getvalue().splitlines():
                tell(line)
    except BrokenPipeError:  # whoever read the help has read enough
        exit_code()
        raise SystemExit(0) from None
    except SystemExit:
        exit_code()
        raise


def _run(command: Command) -> int:
    try:
        with _termination_as_exit() as asked:
            code = command.run()
            # A native library that was running may have swallowed the exception; the result is whole all the same.
            return asked[0] if asked else code
    except TriPortraitError as error:
        if os.environ.get("TRIPORTRAIT_DEBUG"):
            raise
        tell(f"triportrait: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        tell("triportrait: interrupted; nothing half-written is left")
        return 130
    except Exception as error:  # the last door before a user: a bug of ours is one sentence too
        if os.environ.get("TRIPORTRAIT_DEBUG"):
            raise
        remedy = "set TRIPORTRAIT_DEBUG=1 for details and report it, please"
        tell(f"triportrait: internal error ({type(error).__name__}: {error}); {remedy}")
        return 1


@contextlib.contextmanager
def _termination_as_exit() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP unwind like Ctrl-C, so that half-written files go; yields the exit code (143, 129) once one has come."""
    asked: list[int] = []

    def leave(number: int, _: object) -> None:
        if not asked:  # a second one would disturb the tidying up
            asked.append(128 + number)
            raise SystemExit(asked[0])

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    # Windows has no SIGHUP; 'nohup' asks that it do nothing.
    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.signal(number, leave) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_size(size: int | None) -> None:
    if size is not None and (not 128 <= size <= 1024 or size % 2):
        raise OptionError(f"--size is {size}; use an even number from 128 to 1024")


def _check_refine(seconds: float) -> None:
    """Before the minutes that a portrait may take; ``refine.LONGEST_S`` again, which would bring in torch."""
    if not 0.0 <= seconds <= 600.0:
        raise OptionError(f"--refine is {seconds:g}; use a number of seconds from 0 to 600")


def _portrait_options(size: int | None, face: int | None, background_fill: str, quality: str = "standard") -> PortraitOptions | None:
    """None where nothing is asked for: avatar files take no options, and a quality has its own size."""
    from triportrait.face.portrait import PortraitOptions
    from triportrait.model import quality_of

    if size is None and face is None and background_fill == "smooth":
        return None
    return PortraitOptions(size or quality_of(quality).size_px, face=face, background_fill=background_fill)


def _check_output(out: Path, inputs: Sequence[PathLike | None]) -> None:
    """Refuse a target that cannot be written, or that is one of the inputs or a file of an input folder."""
    from triportrait.files import AtomicFile
    from triportrait.outputs import refuse_inputs

    AtomicFile(out).discard()
    refuse_inputs(out, inputs)


def _check_motion_output(out: Path, inputs: Sequence[PathLike | None]) -> None:
    if out.suffix.lower() not in (".npz", ".csv", ".json"):
        raise MotionFileError(f"'{out}' has no ending of a motion file; name it .npz, .csv or .json")
    _check_output(out, inputs)


#: Progress where no terminal is.
_SECONDS_BETWEEN_LINES = 10.0


@dataclass
class _progress:  # noqa: N801 - used like a function
    """A progress bar with speed and time left on a terminal; a line every ten seconds elsewhere."""

    unit: str = "fps"
    bars: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> Callable[[str, int, int], None]:
        self._last = time.perf_counter()
        self._started: dict[str, tuple[float, int]] = {}
        self._bar = None
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bar.start()
        return self._update

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _update(self, what: str, done: int, total: int) -> None:
        what = one_line(what)
        now = time.perf_counter()
        started, already = self._started.setdefault(what, (now, done))
        per_second = (done - already) / (now - started) if now > started else 0.0
        rate = f"{per_second:.1f} {self.unit}" if per_second else ""
        if self._bar is not None:
            if what not in self.bars:
                for task in self._bar.task_ids:
                    self._bar.update(task, visible=False)
                self.bars[what] = self._bar.add_task(what, total=total or None, rate="")
            self._bar.update(self.bars[what], completed=done, rate=rate)
        elif now - self._last > _SECONDS_BETWEEN_LINES and done:
            self._last = now
            left = f", {(total - done) / per_second:.0f} s left" if total > done and per_second else ""
            tell(f"{what}: {done}{f'/{total}' if total else ''}{rate and f', {rate}'}{left}")


if __name__ == "__main__":
    sys.exit(main())
