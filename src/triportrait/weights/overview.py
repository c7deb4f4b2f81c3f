"""What is in the catalogue, what of it is here, and whether it is still what was imported."""

from __future__ import annotations

import textwrap
from pathlib import Path

from triportrait.errors import WeightsError
from triportrait.weights.bfm import PROVENANCE_FILE, verify_bfm
from triportrait.weights.catalogue import CATALOGUE, Entry
from triportrait.weights.home import weights_home
from triportrait.weights.speech_folders import SPEECH_FOLDERS, WEIGHTS_FILE


def listing() -> str:
    """The catalogue with what is imported, for a terminal."""
    home = weights_home()
    lines = [f"Imported weights live in {home}"]
    for one in CATALOGUE:
        lines.append("")
        lines.append(f"{one.name}  [{_state(one, home)}]")
        facts = [
            one.what,
            f"files: {', '.join(file.name for file in one.files)}",
            f"from: {one.page}",
            f"licence: {one.licence}",
        ]
        if one.needed_for:
            facts.append(f"needed for: {one.needed_for}")
        facts.append(f"get it: {_how(one)}")
        for fact in facts:
            lines += textwrap.wrap(fact, 110, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def verify(paths: list[Path]) -> tuple[list[str], bool]:
    """Check imported files to the last number.

    Args:
        paths: files of ours; without any, all in :func:`weights_home`.

    Returns:
        (a line for each file, whether all are sound).
    """
    from triportrait.weights.store import load_weights

    home = weights_home()
    if not paths:
        paths = sorted([*home.glob("*.safetensors"), *(path for name in SPEECH_FOLDERS for path in home.glob(f"{name}/{WEIGHTS_FILE}"))])
        paths += [home / "bfm"] if (home / "bfm" / PROVENANCE_FILE).exists() else []
    lines, sound = [], True
    for path in paths:
        try:
            if path.is_dir():
                lines.append(f"ok      {path}: face model with {verify_bfm(path)} vertices")
            else:
                stored = load_weights(path, verify=True)
                count = sum(tensor.numel() for tensor in stored.tensors.values())
                source = f"{stored.provenance.source_name} ({stored.provenance.source_sha256[:16]})"
                lines.append(f"ok      {path}: {stored.layout}, {count / 1e6:.3f} M numbers, from {source}")
        except WeightsError as error:
            sound = False
            lines.append(f"BROKEN  {error}")
    return lines or [f"nothing is imported in {home}; see 'triportrait weights list'"], sound


def _state(one: Entry, home: Path) -> str:
    if one.name == "bfm":
        return "imported" if (home / "bfm" / PROVENANCE_FILE).exists() else "not here"
    if one.name in SPEECH_FOLDERS and (home / one.name / WEIGHTS_FILE).exists():
        return "imported"
    if any((home / f"{layout}.safetensors").exists() for layout in one.layouts):
        return "imported"
    folder = home / "downloads" / one.name
    names = [folder / Path(file.name).name for file in one.files]
    if all(name.exists() for name in names):
        return "fetched"
    return "partly fetched" if folder.exists() and any(folder.iterdir()) else "not here"


def _how(one: Entry) -> str:
    fetch = f"triportrait weights fetch {one.name}" if all(file.address for file in one.files) else "download it from that page"
    return f"{fetch}, then: triportrait weights import PATH"
