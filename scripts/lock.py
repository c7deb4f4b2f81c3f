"""Write requirements/core.txt and requirements/dev.txt: what ``make`` installs, with hashes. Run it when pyproject.toml changes.

It needs ``uv``:

    pip install uv
    python scripts/lock.py

``core`` makes videos; ``dev`` is what the tests need besides. torch is not in them: it comes first and alone, so that a CPU index or wheel
given to pip decides its build, and it brings its own libraries.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The last releases that have wheels for all systems.
HELD = "c2pa-python<=0.38.0\n"
#: What comes with torch on a machine with a GPU.
WITH_TORCH = re.compile(r"(torch$|triton|nvidia-|cuda-)")


def locked(extras: list[str]) -> dict[str, str]:
    """Requirements by name, each with its markers and hashes."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate"]
    # What is younger than a fortnight nobody has looked at, and mirrors may not have.
    until = (datetime.now(UTC) - timedelta(days=14)).date().isoformat()
    command += ["--exclude-newer", until, "--no-header", "--quiet", *(part for extra in extras for part in ("--extra", extra))]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as held:
        held.write(HELD)
        held.flush()
        text = subprocess.run([*command, "--constraint", held.name], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    entries: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        name = re.split(r"[=\s;]", entry, maxsplit=1)[0]
        entries[name] = f"{entries[name]}\n{entry}" if name in entries else entry
    return entries


def main() -> None:
    core, everything = locked([]), locked(["dev"])
    dev = {name: entry for name, entry in everything.items() if name not in core and not WITH_TORCH.match(name)}
    differing = [name for name in core if everything.get(name) != core[name]]
    if differing:
        # One environment holds both: what the tests need decides.
        core |= {name: everything[name] for name in differing}
    for file, entries in (("core", core), ("dev", dev)):
        path = ROOT / "requirements" / f"{file}.txt"
        path.write_text("\n".join(["# Made by scripts/lock.py.", *entries.values(), ""]))
        print(f"{path.relative_to(ROOT)}: {len(entries)} packages")


if __name__ == "__main__":
    main()
