"""Thousands of damaged uploads through the programs that read them, each in a limited process: how many end in a typed error.

    python benchmarks/uploads.py --count 2000

What counts is the child of :mod:`triportrait.app.children`: ``portrait save`` for photos and avatar files, ``detect`` for videos, and
what the worker does with voices and driving videos. Here the child is forked from a process that has its libraries loaded, so that a
file costs no start. A crash of a native library counts as held: it ends the child and nothing else, and the server says that the file
cannot be read.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
_SECONDS, _MEMORY_BYTES = 120, 6 << 30


def mutated(original: bytes, chance: random.Random) -> bytes:
    """A file after an accident, or in bad faith: bytes changed, cut, taken out, doubled, or numbers made huge."""
    data = bytearray(original)
    kind = chance.randrange(6)
    if kind == 0:
        for _ in range(chance.randrange(1, 40)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif kind == 1:
        del data[chance.randrange(1, len(data)) :]
    elif kind == 2:
        start = chance.randrange(len(data))
        data[start : start + chance.randrange(1, 4000)] = b""
    elif kind == 3:
        start = chance.randrange(min(len(data), 400))
        data[start : start + 4] = chance.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"])
    elif kind == 4:
        start, size = chance.randrange(len(data)), chance.randrange(1, 4000)
        data[start:start] = data[start : start + size]
    else:
        data[: chance.randrange(1, 64)] = chance.randbytes(chance.randrange(1, 64))
    return bytes(data) or b"\0"


def sources(folder: Path) -> dict[str, tuple[bytes, Callable[[Path, Path], object]]]:
    """Small files of each kind, and what reads them."""
    import numpy as np
    import soundfile
    from PIL import Image

    from triportrait.cli import main
    from triportrait.drivers import motion_of_audio
    from triportrait.media.video import VideoReader, VideoWriter

    def save(path: Path, out: Path) -> None:
        sys.exit(main(["portrait", "save", str(path), "-o", str(out)]))

    def look(path: Path, out: Path) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            sys.exit(main(["detect", str(path), "--json"]))

    def hear(path: Path, out: Path) -> None:
        for _ in motion_of_audio(path):
            pass

    def see(path: Path, out: Path) -> None:
        with VideoReader(path) as reader:
            for _ in reader.frames():
                pass

    portrait = Image.open(EXAMPLES / "portrait.png").convert("RGB").resize((256, 256))
    found: dict[str, tuple[bytes, Callable[[Path, Path], object]]] = {}
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        file = io.BytesIO()
        portrait.save(file, kind)
        found[kind] = file.getvalue(), save
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav")
    for kind in ("wav", "flac", "ogg", "mp3"):
        path = folder / f"voice.{kind}"
        soundfile.write(path, samples[:rate_hz], rate_hz)
        found[kind] = path.read_bytes(), hear
    video = folder / "video.mp4"
    with VideoWriter(video, (128, 128), audio=folder / "voice.wav") as writer:
        for step in range(25):
            writer.write(np.roll(np.asarray(portrait.resize((128, 128))), step, 1))
    found["mp4"] = video.read_bytes(), see
    found["mp4, detect"] = video.read_bytes(), look
    avatar = folder / "a.avatar"
    main(["portrait", "save", str(EXAMPLES / "portrait.png"), "-o", str(avatar), "--size", "256"])
    found["avatar"] = avatar.read_bytes(), save
    return found


def outcome(read: Callable[[Path, Path], object], path: Path, out: Path) -> str:
    """How a child ends that reads the file."""
    from triportrait.errors import TriPortraitError

    child = os.fork()
    if not child:
        code = 0
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(_SECONDS)
            read(path, out)
        except SystemExit as end:
            code = int(end.code or 0)
        except TriPortraitError as error:
            code = error.exit_code
        except MemoryError:
            code = 3
        except BaseException:
            code = 1
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "too slow" if number == signal.SIGALRM else f"crashed ({signal.Signals(number).name})"
    return {0: "read", 2: "typed error", 3: "too much memory"}.get(os.WEXITSTATUS(status), "internal error")


def main() -> None:
    """Print outcomes by kind; internal errors are kept in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="kinds of files, separated by commas")
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {kind: one for kind, one in sources(folder).items() if not asked.only or kind in asked.only.split(",")}
        kept = Path(tempfile.gettempdir()) / "triportrait-uploads"
        counts: Counter[tuple[str, str]] = Counter()
        began = time.perf_counter()
        done = 0
        # Ctrl-C shows what there is so far.
        with contextlib.suppress(KeyboardInterrupt):
            for number in range(asked.count):
                kind = list(found)[number % len(found)]
                original, read = found[kind]
                path = folder / f"upload.{kind.partition(',')[0].lower()}"
                path.write_bytes(mutated(original, chance))
                result = outcome(read, path, folder / "out.avatar")
                counts[kind, result] += 1
                done += 1
                if result == "internal error":
                    kept.mkdir(exist_ok=True)
                    (kept / f"{asked.seed}-{number}{path.suffix}").write_bytes(path.read_bytes())
                if done % 50 == 0:
                    print(f"{done} of {asked.count}", file=sys.stderr, flush=True)
        for kind in found:
            print(f"{kind:<12}", {result: count for (one, result), count in sorted(counts.items()) if one == kind})
        print(f"{done} files in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
