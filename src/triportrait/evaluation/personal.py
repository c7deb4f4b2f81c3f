"""A person from the first part of a clip, judged on the rest: what more pictures than one are worth.

Rows: ``first``, the clip's first frame as a photo; ``best``, the given part's most frontal, calmest frame as a photo, with the scene that
the whole part shows; ``personal``, all pictures of the given part; ``personal+linear``, the same with what they lack as a linear map from
motion; ``one source``, the best frame alone with such a map; ``personal+delta``, with the network on top of the map, and its ablations
:data:`ABLATIONS`. Crop, judged frames and metrics are those of
:mod:`triportrait.evaluation.reenact`.

With ``given_clips`` and ``judged_clips`` the person is made of some clips and judged on others, which show the same person, framed alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.errors import MediaError, OptionError
from triportrait.evaluation.cache import TrackCache
from triportrait.evaluation.clip_folder import find_clips
from triportrait.evaluation.parts import ReenactTools, default_tools
from triportrait.evaluation.reenact import Performer, begin_with_clips, compare
from triportrait.evaluation.report import mean_over_clips, reenact_markdown, write_report
from triportrait.evaluation.running import Item, Progress, ProtocolOptions, Tell, run_items
from triportrait.types import Array, PersonalDelta, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.avatar.person.learning import Teacher
    from triportrait.face.person import PersonTrack
    from triportrait.face.takes import Take

#: Gives who learns a network with a part of it left out ("": nothing), which this process can draw then; None where PyTorch is missing.
#: It can be sent to another process.
TeacherOf = Callable[[str], "Teacher | None"]
FORMAT = "triportrait-personal-1"
ROWS = ("first", "best", "personal", "personal+linear", "one source")
#: Rows with the network -> what is left out of it.
ABLATIONS = {
    "personal+delta": "",
    "delta without split": "without_split",
    "delta without lids, rotation": "without_lids_and_rotation",
}
#: Avatar that draws each row.
_AVATARS = {"first": "oneshot", "best": "oneshot"} | dict.fromkeys(("personal", "personal+linear", "one source", *ABLATIONS), "person")


@dataclass(frozen=True, slots=True)
class PersonalOptions(ProtocolOptions):
    """What ``triportrait evaluate personal`` asks for; ``avatars`` are the rows.

    Args:
        given: share of each clip that the person is made of.
        window: as in :class:`triportrait.evaluation.reenact.ReenactOptions`, in the judged part.
        given_clips, judged_clips: patterns of file names in the folder; a person is made of the first and judged on the second.
            Without them each clip is a person of its own.
        learn, seed: minutes of processor time in which a network learns, and its seed; None where no row has a network. They stand in the
            report; who learns so is ``teacher_of`` of :func:`run_personal`.
    """

    given: float = 0.5
    window: int = 30
    given_clips: tuple[str, ...] = ()
    judged_clips: tuple[str, ...] = ()
    learn: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        ProtocolOptions.__post_init__(self)
        if not 0.05 <= self.given <= 0.95:
            raise OptionError(f"--given is {self.given:g}; use a share from 0.05 to 0.95.")
        unknown = [name for name in self.avatars if name not in _AVATARS]
        if unknown:
            raise OptionError(f"there is no row {unknown[0]!r}; choose from {', '.join(_AVATARS)}.")
        if bool(self.given_clips) != bool(self.judged_clips):
            raise OptionError("--given-clips and --judged-clips go together: of which clips the person is made, and on which it is judged.")
        has_network = any(name in ABLATIONS for name in self.avatars)
        if not has_network and (self.learn is not None or self.seed is not None):
            word = "--seed" if self.learn is None else "--learn"
            raise OptionError(f"{word} does nothing without a row that has a network; add --rows personal+delta.")

    def clips_given(self) -> list[Path]:
        """The files of ``given_clips``.

        Raises:
            MediaError: there is none, or one of them is judged, too.
        """
        found = _matching(find_clips(self.clips), self.given_clips)
        both = _matching(found, self.judged_clips)
        if not found or both:
            reason = f"{both[0].name} is given and judged" if both else f"no video in {self.clips} is {' or '.join(self.given_clips)}"
            raise MediaError(f"{reason}; name other files with --given-clips and --judged-clips.")
        return found


@dataclass(frozen=True, slots=True)
class PersonalTools:
    """What the protocol calls.

    Args:
        base: the parts shared with the same-identity protocol.
        make_person: (takes, frames per second, crop box) -> the person without a delta, and how they move.
        learn: (person, takes, how they move, row) -> what the person's pictures lack, for rows of :data:`ABLATIONS` with a network.
    """

    base: ReenactTools
    make_person: Callable[[Sequence[Take], float, tuple[float, float, float]], tuple[PreparedPortrait, PersonTrack]]
    learn: Callable[[PreparedPortrait, Sequence[Take], PersonTrack, str], PersonalDelta | None]


def default_personal_tools(teacher_of: TeacherOf | None = None) -> PersonalTools:
    """The protocol's parts as the package has them; ``teacher_of`` gives who learns the network of an ablation."""
    from triportrait import drivers
    from triportrait.face.person import person_of_takes
    from triportrait.pipeline import learn_delta
    from triportrait.shot_motion import with_warps

    def make_person(takes: Sequence[Take], fps: float, box: tuple[float, float, float]) -> tuple[PreparedPortrait, PersonTrack]:
        head = drivers.default_head()
        person, track = person_of_takes(takes, fps, drivers.default_tracker(), head, box=box)
        return with_warps(person, head), track

    def learn(portrait: PreparedPortrait, takes: Sequence[Take], track: PersonTrack, row: str) -> PersonalDelta | None:
        teacher = None
        if row in ABLATIONS:
            teacher = teacher_of(ABLATIONS[row]) if teacher_of is not None else None
            if teacher is None:
                raise OptionError(f"the row {row!r} needs PyTorch: pip install 'triportrait[train]'")
        return learn_delta(portrait, takes, track, teacher=teacher)

    return PersonalTools(default_tools(), make_person, learn)


def run_personal(
    options: PersonalOptions,
    *,
    tools: PersonalTools | None = None,
    teacher_of: TeacherOf | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Measure on every clip of a folder, write the reports and return what the JSON holds; resumes as ``run_reenact`` does.

    Raises:
        MediaError: the folder holds no clip.
        OutputError: the report cannot be written.
        TriPortraitError: every clip failed.
    """
    items, boxes, report = begin_with_clips(FORMAT, options)
    given = options.clips_given() if options.given_clips else []
    if given:
        items = [item for item in items if _matching(item.files, options.judged_clips)]
        if not items:
            raise MediaError(f"no video in {options.clips} is {' or '.join(options.judged_clips)}; name others with --judged-clips.")
    known: list[_Known] = []

    def save() -> None:
        report["mean"] = mean_over_clips(report["clips"], options.avatars)
        text = f"The first {100 * options.given:.0f} % of each clip is given, the rest judged; one frame in"
        if given:
            text = f"One person is made of {len(given)} clips and judged on others; one frame in"
        markdown = reenact_markdown(report).replace("# Same-identity reenactment", "# A person from a video", 1)
        write_report(options.out, report, markdown.replace("First frame → whole clip; one frame in", text, 1))

    def measure(item: Item, tell: Tell) -> dict[str, Any]:
        found = default_personal_tools(teacher_of) if tools is None else tools
        if not given:
            return evaluate_person(item.files[0], options, found, boxes.get(item.name), tell)
        if not known:
            known.append(_Known.of([(path, None) for path in given], options, found, tell))
        return known[0].judged_on(item.files[0], 0, options, found, boxes.get(item.name), tell)

    in_process = partial(_measure_in_process, _Sent(options, teacher_of), boxes)
    run_items(report, items, measure, in_process, save, options.jobs, progress)
    return report


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a process is told with each clip. It arrives as a new object each time, so that equal options make it equal."""

    options: PersonalOptions
    teacher_of: TeacherOf | None = field(compare=False)


@lru_cache(maxsize=1)
def _tools_of_process(sent: _Sent) -> PersonalTools:
    return default_personal_tools(sent.teacher_of)


@lru_cache(maxsize=1)
def _known_of_process(sent: _Sent) -> _Known:
    return _Known.of([(path, None) for path in sent.options.clips_given()], sent.options, _tools_of_process(sent), _tell_nobody)


def _measure_in_process(sent: _Sent, boxes: dict[str, tuple[float, float, float, float]], item: Item) -> dict[str, Any]:
    options, tools, box = sent.options, _tools_of_process(sent), boxes.get(item.name)
    if options.given_clips:
        return _known_of_process(sent).judged_on(item.files[0], 0, options, tools, box, _tell_nobody)
    return evaluate_person(item.files[0], options, tools, box, _tell_nobody)


def _tell_nobody(stage: str, done: int, total: int) -> None:
    pass


def _matching(paths: Iterable[Path], patterns: Sequence[str]) -> list[Path]:
    return [path for path in paths if any(fnmatch(path.name, pattern) or fnmatch(path.stem, pattern) for pattern in patterns)]


def evaluate_person(
    path: Path,
    options: PersonalOptions,
    tools: PersonalTools,
    filled_box: tuple[float, float, float, float] | None,
    tell: Tell,
) -> dict[str, Any]:
    """The report's entry of one clip.

    Raises:
        TriPortraitError: nobody can be made of its first part, or nothing measured on the rest.
    """
    count = sum(1 for _ in tools.base.read_frames(path)[1])
    given = round(options.given * count)
    if not given or given >= count:
        raise MediaError(f"{path.name} has {count} frames, too few for a given part and a judged one.")
    return _Known.of([(path, given)], options, tools, tell).judged_on(path, given, options, tools, filled_box, tell)


@dataclass(frozen=True, slots=True)
class _Known:
    """A person as each row has it.

    Args:
        portraits: by row; ``first`` and ``best`` are there in any case.
        frames, clips: that it was made of.
    """

    portraits: dict[str, PreparedPortrait]
    frames: int
    clips: int

    @staticmethod
    def of(given: Sequence[tuple[Path, int | None]], options: PersonalOptions, tools: PersonalTools, tell: Tell) -> _Known:
        """From clips, each with the number of its frames that are given; None: all."""
        from triportrait.face.takes import Take

        base = tools.base
        tell("person", 0, 1)
        takes = []
        for path, most in given:

            def read(path: Path = path, most: int | None = most) -> Iterable[Array]:
                return islice(base.read_frames(path)[1], most)

            takes.append(Take(read, path.name))
        first = base.prepare_portrait(next(iter(takes[0].read())))
        fps = base.read_frames(given[0][0])[0]
        person, track = tools.make_person(takes, fps, first.crop_box)
        best = replace(person, others=())
        portraits = {"first": first, "best": best, "personal": person}
        for name, bare in (("personal+linear", person), ("one source", best), *((row, person) for row in ABLATIONS)):
            if name in options.avatars:
                tell(name, 0, 1)
                portraits[name] = replace(bare, delta=tools.learn(bare, takes, track, name))
        return _Known(portraits, len(track.motion), len(takes))

    def judged_on(
        self,
        path: Path,
        start: int,
        options: PersonalOptions,
        tools: PersonalTools,
        filled_box: tuple[float, float, float, float] | None,
        tell: Tell,
    ) -> dict[str, Any]:
        """The report's entry of a clip that is judged from frame ``start`` on."""
        base = tools.base
        first, best = self.portraits["first"], self.portraits["best"]
        fps, frames = base.read_frames(path)
        driven = base.drive(best, frames, fps)
        motions = {"first": base.drive(first, base.read_frames(path)[1], fps)} if "first" in options.avatars else {}
        chosen = list(range(start, len(driven), options.every))
        performers = {name: Performer(_AVATARS[name], self.portraits[name], motions.get(name, driven)) for name in options.avatars}
        length = min(options.window, len(driven) - start)
        begin = start + (len(driven) - start - length) // 2
        window = list(range(begin, begin + length))
        cache = TrackCache(options.cache)
        entry = compare(path, options, base, performers, chosen, window, filled_box=filled_box, cache=cache, tell=tell)
        more = {"fps": float(fps), "given_frames": self.frames, "given_clips": self.clips}
        return entry | more | {"pictures": 1 + len(self.portraits["personal"].others)}
