"""Which videos there are, under which names: a plain folder, and three published data sets in the layouts they are published in.

Facts about the layouts: CelebV-HQ's README and download script (github.com/CelebV-HQ/CelebV-HQ), TalkingHead-1KH's README and scripts
(github.com/tcwang0509/TalkingHead-1KH), VoxCeleb2's site (robots.ox.ac.uk/~vgg/data/voxceleb).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from triportrait.errors import EmptyMedia, MediaError

log = logging.getLogger(__name__)

Layout = Literal["auto", "folder", "celebv_hq", "talkinghead_1kh", "voxceleb2"]
Split = Literal["train", "val", "test"]

#: Endings that are taken for videos.
VIDEO_ENDINGS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
_CELEBV_INDEX = "celebvhq_info.json"
#: ``<video>_<minute>_S<first frame>_E<last>_L<left>_T<top>_R<right>_B<bottom>``
_TALKING_HEAD = re.compile(r"(?P<video>.+?)(?:_(?P<minute>\d{4}))?_S(?P<first>\d+)_E(?P<last>\d+)_L\d+_T\d+_R\d+_B\d+")
_PERSON = re.compile(r"id\d{5}")
#: Keys become parts of names in a tar file, which holds 100 letters.
_LONGEST_KEY = 64
#: CelebV-HQ's own script grows the published boxes by this on each side.
_CELEBV_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class VideoSource:
    """One video, or one published piece of it.

    Args:
        key: unique name; letters, digits, ``_`` and ``-``.
        path: the file.
        name: of the file in its data set, for people to read.
        person: videos with the same word never end up on both sides of a split.
        split: ``"train"``, ``"val"`` or ``"test"``.
        dataset: the layout it was found in.
        start_s, seconds: the piece of the file that is meant; None to the end.
        box: (left, top, right, bottom) of what is looked at, shares of the picture; None for the whole.
        sound: another file with the sound, or None when the video's own counts.
    """

    key: str
    path: str
    name: str
    person: str
    split: Split
    dataset: str = "folder"
    start_s: float = 0.0
    seconds: float | None = None
    box: tuple[float, float, float, float] | None = None
    sound: str | None = None

    def piece(self, number: int, start_s: float, seconds: float) -> VideoSource:
        """Part ``number`` of a long video, ``start_s`` after this source's own start."""
        return replace(self, key=f"{self.key}--p{number:04d}", start_s=self.start_s + start_s, seconds=seconds)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VideoSource:
        """See :meth:`as_dict`."""
        return cls(**values | {"box": tuple(values["box"]) if values["box"] else None})


def find_videos(root: Path, layout: Layout = "auto") -> list[VideoSource]:
    """All videos below ``root`` (or the file ``root``), sorted by split and key.

    Raises:
        MediaError: there is no such place, or the data set's index is damaged.
        EmptyMedia: it holds no video.
    """
    root = Path(root)
    if not root.exists():
        raise MediaError(f"'{root}' does not exist; name a folder of videos or a video.")
    if layout == "auto":
        layout = recognise(root)
    found = sorted(_READERS[layout](root), key=lambda source: (source.split, source.key))
    if not found:
        hint = "" if layout == "folder" else f" in the layout of {layout}; --layout folder takes every video there is"
        raise EmptyMedia(f"'{root}' holds no video{hint}.")
    seen: dict[str, VideoSource] = {}
    for source in found:
        if (other := seen.setdefault(source.key, source)) is not source:
            raise MediaError(f"'{other.path}' and '{source.path}' have the same name in their data set; rename or remove one of them.")
    return found


def recognise(root: Path) -> Layout:
    """Which published layout a folder has; ``"folder"`` when none of them."""
    if root.is_file():
        return "folder"
    if (root / _CELEBV_INDEX).is_file():
        return "celebv_hq"
    if any((root / part / "mp4").is_dir() for part in ("dev", "test")) or any(
        _PERSON.fullmatch(folder.name) for folder in root.iterdir() if folder.is_dir()
    ):
        return "voxceleb2"
    if root.name == "cropped_clips" or next(root.glob("*/cropped_clips"), None) or (root / "cropped_clips").is_dir():
        return "talkinghead_1kh"
    return "folder"


def split_of(person: str) -> Split:
    """``"val"`` for a tenth of all people, by name alone: the first 32 bits of SHA-1 modulo 10."""
    return "val" if int(_digest(person), 16) % 10 == 0 else "train"


def key_of(name: str) -> str:
    """A key for any name: itself where its letters allow, else the allowed ones with eight digits of its hash."""
    plain = name.replace("/", "-")
    if re.fullmatch(r"[A-Za-z0-9_\-]+", plain) and len(plain) <= _LONGEST_KEY and "-" not in name.replace("/", ""):
        return plain
    kept = re.sub(r"[^A-Za-z0-9_\-]+", "_", plain)[-(_LONGEST_KEY - 9) :]
    return f"{kept}-{_digest(name)}"


def _digest(name: str) -> str:
    """The first 32 bits of SHA-1; file names may hold bytes that are no letters."""
    return hashlib.sha1(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _videos(folder: Path) -> Iterator[Path]:
    """Video files below a folder, hidden ones left out."""
    if folder.is_file():
        yield folder
        return
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.suffix.lower() in VIDEO_ENDINGS and not any(part.startswith(".") for part in inside) and path.is_file():
            yield path


def _folder(root: Path) -> Iterator[VideoSource]:
    """Every video; its person is itself. Files that differ only in their ending keep it in their key."""
    base = root.parent if root.is_file() else root
    paths = list(_videos(root))
    stems = [path.relative_to(base).with_suffix("").as_posix() for path in paths]
    counts = Counter(stems)
    for path, stem in zip(paths, stems, strict=True):
        name = path.relative_to(base).as_posix()
        unique = stem if counts[stem] == 1 else name
        yield VideoSource(key_of(unique), str(path), name, name, split_of(name))


def _celebv_hq(root: Path) -> Iterator[VideoSource]:
    """``celebvhq_info.json`` beside processed clips ``<clip>.mp4``, or raw videos ``<ytb_id>.mp4`` of which its times and boxes are cut.

    No identities are published: clips of one YouTube video count as one person. No split is published either.
    """
    try:
        clips = json.loads((root / _CELEBV_INDEX).read_text(encoding="utf-8"))["clips"]
        published = {
            name: (
                str(clip["ytb_id"]),
                (float(clip["duration"]["start_sec"]), float(clip["duration"]["end_sec"])),
                tuple(float(clip["bbox"][side]) for side in ("left", "top", "right", "bottom")),
            )
            for name, clip in clips.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise MediaError(f"'{root / _CELEBV_INDEX}' is not CelebV-HQ's index ({error!r}); fetch it again.") from None
    files = {path.stem: path for path in _videos(root)}
    missing = 0
    for name, (video, (start_s, end_s), (left, top, right, bottom)) in published.items():
        source = VideoSource(key_of(name), "", f"{name}.mp4", video, split_of(video), "celebv_hq")
        if name in files:
            yield replace(source, path=str(files[name]))
        elif video in files and end_s > start_s:
            margin = _CELEBV_MARGIN
            box = (max(left - margin, 0.0), max(top - margin, 0.0), min(right + margin, 1.0), min(bottom + margin, 1.0))
            yield replace(source, path=str(files[video]), start_s=start_s, seconds=end_s - start_s, box=box)
        else:
            missing += 1
    if missing:
        log.warning("%d of %d clips in %s have no file here", missing, len(published), _CELEBV_INDEX)


def _talkinghead_1kh(root: Path) -> Iterator[VideoSource]:
    """``{train,val,small}/cropped_clips/<video>_<minute>_S.._E.._L.._T.._R.._B...mp4``, as the published scripts write them.

    Clips of one YouTube video count as one person. ``val`` is the published one.
    """
    for path in _videos(root):
        inside = [root.name, *path.relative_to(root).parts]
        match = _TALKING_HEAD.fullmatch(path.stem)
        if match is None or "cropped_clips" not in inside:
            continue
        split: Split = "val" if "val" in inside[: inside.index("cropped_clips")] else "train"
        yield VideoSource(key_of(path.stem), str(path), path.name, match["video"], split, "talkinghead_1kh")


def _voxceleb2(root: Path) -> Iterator[VideoSource]:
    """``{dev,test}/mp4/idXXXXX/<YouTube id>/NNNNN.mp4``; sound from ``.../aac/.../NNNNN.m4a`` where the video has none.

    People of ``dev`` are split by their number; ``test`` is the published one.
    """
    for path in _videos(root):
        if len(path.parts) < 3 or not _PERSON.fullmatch(path.parts[-3]):
            continue
        person, video = path.parts[-3:-1]
        inside = [root.name, *path.relative_to(root).parts]
        name = f"{person}/{video}/{path.stem}"
        split: Split = "test" if "test" in inside[: inside.index(person)] else split_of(person)
        beside = path.parents[2].parent / "aac" / person / video / f"{path.stem}.m4a"
        yield VideoSource(
            key_of(name), str(path), f"{name}.mp4", person, split, "voxceleb2", sound=str(beside) if beside.is_file() else None
        )


_READERS: dict[str, Any] = {
    "folder": _folder,
    "celebv_hq": _celebv_hq,
    "talkinghead_1kh": _talkinghead_1kh,
    "voxceleb2": _voxceleb2,
}
