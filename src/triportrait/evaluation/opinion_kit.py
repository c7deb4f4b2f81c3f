"""A page on which people rate videos, for the study of the paper's Table 3 (appendix D.2).

The page is one file that needs no network and no server. It shows the videos under neutral names, asks the paper's three questions and
lets the rater save the answers as CSV; :mod:`triportrait.evaluation.opinion_answers` sums them up.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.errors import MediaError, OptionError, OutputError
from triportrait.evaluation.printed import OPINIONS
from triportrait.files import atomic_folder, check_readable, make_folder
from triportrait.motion.voice_controls import check_seed

log = logging.getLogger(__name__)

FORMAT = "triportrait-opinions-1"
PAGE = "index.html"
#: What browsers play, and show.
_VIDEOS, _PHOTOS = (".mp4", ".m4v", ".mov", ".webm"), (".jpg", ".jpeg", ".png", ".webp")
#: The paper's criteria (D.2) in our words; without a photograph beside the video nobody can compare with one.
_SENTENCES = {
    "identity": "How much does the person in the video look like the person in the photograph? Judge nothing but this likeness.",
    "visual": "How good does the video look as a whole? Count how lifelike its pictures are, and how smoothly one follows the other.",
    "lip_sync": "How well do the lips fit the words that you hear? Judge nothing but this, and leave the quality of the picture aside.",
}
_WITHOUT_PHOTO = "How well does the video keep the looks of one and the same person from beginning to end? Judge nothing but this."
_TITLES = {"identity": "Likeness of the person", "visual": "Quality of the video", "lip_sync": "Lips and sound"}
_KIT = re.compile(r'<script id="kit" type="application/json">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class RatedVideo:
    """One video of a kit.

    Args:
        method: the name of its folder.
        clip: its file's name without the ending.
        file: where it lies.
        photo: the picture that it was made from; None where there is none.
    """

    method: str
    clip: str
    file: Path
    photo: Path | None


def encoded(method: str, clip: str) -> str:
    """Method and clip as a word that tells a rater nothing at a glance. It is no secret: whoever wants to can decode it."""
    return base64.urlsafe_b64encode(json.dumps([method, clip], ensure_ascii=False).encode()).decode()


def decoded(code: str) -> tuple[str, str]:
    """Method and clip of a word that :func:`encoded` made.

    Raises:
        ValueError: it is none.
    """
    found = json.loads(base64.b64decode(code.encode("ascii"), altchars=b"-_", validate=True))
    if not (isinstance(found, list) and len(found) == 2 and all(isinstance(name, str) and name for name in found)):
        raise ValueError(code)
    return found[0], found[1]


def find_videos(folder: Path) -> list[RatedVideo]:
    """The videos of every method, each looked at; methods and clips in the order of their names.

    Raises:
        OptionError: there is no such folder, no method in it, or the methods have not the same clips.
        MediaError: a video that browsers do not play, or that cannot be read.
    """
    from triportrait.media.video import VideoReader

    if not folder.is_dir():
        raise OptionError(f"--videos is '{folder}'; give a folder that has a folder of clips per method.")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    methods: dict[str, dict[str, Path]] = {}
    for place in (path for path in entries if path.is_dir()):
        files = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
        for file in files:
            if file.suffix.lower() not in _VIDEOS:
                raise MediaError(f"'{file}' is nothing that every browser plays; convert it to .mp4 or take it out.")
        methods[place.name] = {file.stem: file for file in files}
    first = next(iter(methods.values()), {})
    if not first:
        raise OptionError(f"'{folder}' holds no folder with videos; make one per method, each with the same names of clips.")
    for method, clips in methods.items():
        for clip in sorted(first.keys() ^ clips.keys()):
            lacking = method if clip in first else next(iter(methods))
            raise OptionError(f"method '{lacking}' has no clip '{clip}'; every method needs the same clips.")
    photos = {path.stem: path for path in entries if path.is_file() and path.suffix.lower() in _PHOTOS}
    without = [clip for clip in first if clip not in photos]
    if without and len(without) < len(first):
        raise OptionError(f"clip '{without[0]}' has no photograph beside the methods' folders, others have; add '{without[0]}.jpg'.")
    if without:
        log.warning("there are no photographs in '%s', such as %s.jpg: likeness is asked about without one", folder, without[0])
    videos = [RatedVideo(method, clip, file, photos.get(clip)) for method, clips in methods.items() for clip, file in clips.items()]
    for video in videos:
        check_readable(video.file)
        VideoReader(video.file).close()
    return videos


def make_kit(folder: Path, out: Path, seed: int = 0) -> str:
    """Make the folder ``out`` with the page and neutrally named copies of the videos.

    Args:
        folder: see :func:`find_videos`.
        out: the folder to make; an empty one may be there.
        seed: of the videos' neutral numbers and of the order in which each rater sees them.

    Returns:
        What to do with it, in Markdown.

    Raises:
        OptionError, MediaError: see :func:`find_videos`; or the seed is negative.
        OutputError: ``out`` is in the way or cannot be written.
    """
    check_seed(seed)
    videos = find_videos(folder)
    if out.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"'{out}' lies in the folder of videos; choose a folder outside '{folder}'.")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(f"'{out}' is there already; choose a folder that is new or empty.")
    order = np.random.default_rng(seed).permutation(len(videos))
    digest = hashlib.sha256(str(seed).encode())
    clips = sorted({video.clip for video in videos})
    entries: list[dict[str, Any]] = []
    make_folder(out.parent)
    try:
        with atomic_folder(out) as part:
            for number, index in enumerate(order, 1):
                video = videos[index]
                name = f"v{number:03}"
                entry = {"id": name, "file": name + video.file.suffix.lower(), "photo": None, "code": encoded(video.method, video.clip)}
                shutil.copyfile(video.file, part / entry["file"])
                with (part / entry["file"]).open("rb") as copy:
                    digest.update(f"{entry['code']} {hashlib.file_digest(copy, 'sha256').hexdigest()}".encode())
                if video.photo is not None:
                    entry["photo"] = f"p{clips.index(video.clip) + 1:03}{video.photo.suffix.lower()}"
                    shutil.copyfile(video.photo, part / entry["photo"])
                entries.append(entry)
            kit = {
                "format": FORMAT,
                "kit": digest.hexdigest()[:12],
                "seed": seed,
                "questions": _questions(videos[0].photo is not None),
                "videos": entries,
            }
            (part / PAGE).write_text(page_of(kit), encoding="utf-8")
            part.chmod(0o755)
    except OSError as error:
        raise OutputError(f"'{out}' cannot be made: {error.strerror or error}; choose another place.") from error
    methods = sorted({video.method for video in videos})
    return (
        f"# Rating kit '{out}'\n\n{len(entries)} videos: {len(clips)} clips of each of {', '.join(methods)}. Send the whole folder "
        f"to every rater, who opens `{PAGE}` in a browser and sends back a file `answers_....csv`. Then run:\n\n"
        f"    triportrait evaluate opinions --answers answers_*.csv --kit {out}\n"
    )


def _questions(has_photos: bool) -> list[dict[str, str]]:
    sentences = _SENTENCES if has_photos else {**_SENTENCES, "identity": _WITHOUT_PHOTO}
    return [{"key": key, "title": _TITLES[key], "sentence": sentences[key]} for key in OPINIONS]


def page_of(kit: dict[str, Any]) -> str:
    """The page with a kit's data in it."""
    page = resources.files("triportrait.evaluation").joinpath("opinion_page.html").read_text(encoding="utf-8")
    # Inside a script element nothing but its end is special; "<" is written so that it cannot come.
    return page.replace("/*KIT*/", json.dumps(kit, ensure_ascii=False).replace("<", "\\u003c"), 1)


def read_kit(folder: Path) -> dict[str, Any]:
    """The data in the page of a kit.

    Raises:
        OptionError: the folder is no kit of ours.
    """
    sentence = f"'{folder}' is no rating kit; give the folder that 'evaluate opinions --videos' made."
    try:
        found = _KIT.search((folder / PAGE).read_text(encoding="utf-8"))
        kit = json.loads(found[1]) if found else {}
        if kit.get("format") != FORMAT:
            raise OptionError(sentence)
        for video in kit["videos"]:
            decoded(video["code"])
        return dict(kit)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise OptionError(sentence) from None
