"""A person from the first part of a clip, judged on the rest: what more pictures than one are worth.

Rows: ``first``, the clip's first frame as a photo; ``best``, the given part's most frontal, calmest frame as a photo, with the scene that
the whole part shows; ``personal``, all pictures of the given part; ``personal+linear``, the same with what they lack as a linear map from
motion; ``one source``, the best frame alone with such a map. Crop, judged frames and metrics are those of
:mod:`triportrait.evaluation.reenact`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.errors import MediaError, OptionError
from triportrait.evaluation.cache import TrackCache
from triportrait.evaluation.parts import ReenactTools, default_tools
from triportrait.evaluation.reenact import Performer, begin_with_clips, compare
from triportrait.evaluation.report import mean_over_clips, reenact_markdown, write_report
from triportrait.evaluation.running import Item, Progress, ProtocolOptions, Tell, run_items
from triportrait.types import Array, PersonalDelta, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.face.person import PersonTrack

#: Gives the frames of the given part as often as it is called.
Read = Callable[[], Iterable[Array]]
FORMAT = "triportrait-personal-1"
ROWS = ("first", "best", "personal", "personal+linear", "one source")
#: Avatar that draws each row.
_AVATARS = {"first": "oneshot", "best": "oneshot"} | dict.fromkeys(("personal", "personal+linear", "one source"), "person")


@dataclass(frozen=True, slots=True)
class PersonalOptions(ProtocolOptions):
    """What ``triportrait evaluate personal`` asks for; ``avatars`` are the rows.

    Args:
        given: share of each clip that the person is made of.
        window: as in :class:`triportrait.evaluation.reenact.ReenactOptions`, in the judged part.
    """

    given: float = 0.5
    window: int = 30

    def __post_init__(self) -> None:
        ProtocolOptions.__post_init__(self)
        if not 0.05 <= self.given <= 0.95:
            raise OptionError(f"--given is {self.given:g}; use a share from 0.05 to 0.95.")


@dataclass(frozen=True, slots=True)
class PersonalTools:
    """What the protocol calls.

    Args:
        base: the parts shared with the same-identity protocol.
        make_person: (gives the frames, frames per second, crop box, name) -> the person without a delta, and how they move.
        learn: (person, gives the frames, how they move) -> what the person's pictures lack.
    """

    base: ReenactTools
    make_person: Callable[[Read, float, tuple[float, float, float], str], tuple[PreparedPortrait, PersonTrack]]
    learn: Callable[[PreparedPortrait, Read, PersonTrack], PersonalDelta | None]


def default_personal_tools() -> PersonalTools:
    """The protocol's parts as the package has them."""
    from triportrait import drivers
    from triportrait.face.person import person_of_frames
    from triportrait.pipeline import learn_delta

    def make_person(read: Read, fps: float, box: tuple[float, float, float], name: str) -> tuple[PreparedPortrait, PersonTrack]:
        return person_of_frames(read, fps, drivers.default_tracker(), drivers.default_head(), name=name, box=box)

    return PersonalTools(default_tools(), make_person, learn_delta)


def run_personal(
    options: PersonalOptions, *, tools: PersonalTools | None = None, progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Measure on every clip of a folder, write the reports and return what the JSON holds; resumes as ``run_reenact`` does.

    Raises:
        MediaError: the folder holds no clip.
        OutputError: the report cannot be written.
        TriPortraitError: every clip failed.
    """
    items, boxes, report = begin_with_clips(FORMAT, options)

    def save() -> None:
        report["mean"] = mean_over_clips(report["clips"], options.avatars)
        text = f"The first {100 * options.given:.0f} % of each clip is given, the rest judged; one frame in"
        markdown = reenact_markdown(report).replace("# Same-identity reenactment", "# A person from a video", 1)
        write_report(options.out, report, markdown.replace("First frame → whole clip; one frame in", text, 1))

    def measure(item: Item, tell: Tell) -> dict[str, Any]:
        found = default_personal_tools() if tools is None else tools
        return evaluate_person(item.files[0], options, found, boxes.get(item.name), tell)

    run_items(report, items, measure, partial(_measure_in_process, options, boxes), save, options.jobs, progress)
    return report


@lru_cache(maxsize=1)
def _tools_of_process() -> PersonalTools:
    return default_personal_tools()


def _measure_in_process(options: PersonalOptions, boxes: dict[str, tuple[float, float, float, float]], item: Item) -> dict[str, Any]:
    return evaluate_person(item.files[0], options, _tools_of_process(), boxes.get(item.name), lambda stage, done, total: None)


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
    base = tools.base
    tell("person", 0, 1)
    fps, frames = base.read_frames(path)
    count = sum(1 for _ in frames)
    given = round(options.given * count)
    chosen = list(range(given, count, options.every))
    if not given or not chosen:
        raise MediaError(f"{path.name} has {count} frames, too few for a given part and a judged one.")
    first = base.prepare_portrait(next(iter(base.read_frames(path)[1])))

    def read() -> Iterable[Array]:
        return islice(base.read_frames(path)[1], given)

    person, track = tools.make_person(read, fps, first.crop_box, path.name)
    best = replace(person, others=())
    portraits = {"first": first, "best": best, "personal": person}
    for name, bare in (("personal+linear", person), ("one source", best)):
        if name in options.avatars:
            tell(name, 0, 1)
            portraits[name] = replace(bare, delta=tools.learn(bare, read, track))
    driven = base.drive(best, base.read_frames(path)[1], fps)
    motions = {"first": base.drive(first, base.read_frames(path)[1], fps)}
    performers = {name: Performer(_AVATARS[name], portraits[name], motions.get(name, driven)) for name in options.avatars}
    length = min(options.window, count - given)
    start = given + (count - given - length) // 2
    window = list(range(start, start + length))
    entry = compare(path, options, base, performers, chosen, window, filled_box=filled_box, cache=TrackCache(options.cache), tell=tell)
    return entry | {"fps": float(fps), "given_frames": given, "pictures": 1 + len(person.others)}
