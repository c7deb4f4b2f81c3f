"""Write src/triportrait/kernels_ahead.json: the kernels that a first frame calls, in order. Run it when a kernel's arguments change.

python scripts/record_kernels.py
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as empty:
        os.environ["NUMBA_CACHE_DIR"] = empty
        calls = recorded()
    lines = ",\n".join(json.dumps(call) for call in calls)
    target = ROOT / "src" / "triportrait" / "kernels_ahead.json"
    target.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{target.relative_to(ROOT)}: {len(calls)} kernels")


def recorded() -> list[tuple[str, list[Any]]]:
    """What is compiled for a frame of both examples, without what other kernels bring along."""
    from numba.core import event

    from triportrait.kernels_ahead import said_of
    from triportrait.pipeline import Portrait

    calls: list[tuple[str, list[Any]]] = []

    class Outermost(event.Listener):
        depth = 0

        def on_start(self, told: event.Event) -> None:
            if not self.depth and (function := told.data["dispatcher"].py_func).__module__.startswith("triportrait."):
                calls.append((f"{function.__module__}:{function.__qualname__}", [said_of(kind) for kind in told.data["args"]]))
            self.depth += 1

        def on_end(self, _: event.Event) -> None:
            self.depth -= 1

    # One thread: what compiles at the same time could not be told apart.
    os.environ["TRIPORTRAIT_THREADS"] = "1"
    with event.install_listener("numba:compile", Outermost()):
        for photo in ("portrait.png", "portrait2.png"):
            next(Portrait.from_image(ROOT / "examples" / photo).talk(ROOT / "examples" / "speech.wav").frames())
    return calls


if __name__ == "__main__":
    main()
