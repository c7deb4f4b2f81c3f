"""Who may import whom. The tables below are the only copy of the rule."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import triportrait

PACKAGE = Path(triportrait.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"types", "errors", "geometry", "array_files", "compiling", "concurrency", "outputs"}
STAGES = {"media", "face", "motion", "avatar", "render", "composite", "provenance"}
JOINED = GROUND | STAGES | {"nn", "weights", "model", "presets", "refine", "pipeline", "load", "paper"}

#: Room (or module of the top level) -> rooms it may import, besides itself. Imports inside functions count.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "concurrency": set(),
    "types": {"errors"},
    "array_files": set(),
    "compiling": set(),
    "outputs": {"errors"},
    "geometry": GROUND,
    "nn": GROUND,
    **{stage: GROUND | {"nn"} for stage in STAGES},
    "weights": GROUND,
    "model": GROUND | {"nn", "avatar", "render", "composite"},
    "presets": GROUND | {"nn", "avatar", "render", "composite", "motion"},
    "refine": GROUND | {"nn", "avatar", "render", "media"},
    "pipeline": GROUND | {"media", "face", "motion", "provenance", "model", "presets", "refine"},
    "paper": GROUND | STAGES | {"nn", "weights", "model", "presets", "pipeline"},
    "load": GROUND | {"model", "pipeline", "presets", "weights"},
    "synth": JOINED,
    "training": JOINED | {"synth"},
    "evaluation": JOINED,
    "app": JOINED,
    "doctor": JOINED,
    "terminal": set(),
    "cli": JOINED | {"terminal", "doctor", "synth", "training", "evaluation", "app"},
    "__main__": {"cli"},
    # The package itself names its exports as text and looks them up when they are used.
    "__init__": set(),
}

#: Outside package -> the files (or folders, ending in /) that may import it.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "mediapipe": ("face/tracker.py",),
    "av": ("media/",),
    "soundfile": ("media/",),
    "imageio": (),
    "torchvision": (),
    "torchaudio": (),
    # Unpicklers that build arrays and plain containers, or inert records, only: FLAME and EG3D are published as pickles.
    "pickle": ("face/flame.py", "weights/inert_pickle.py"),
    "c2pa": ("provenance/",),
    "lightning": ("training/",),
    "webdataset": ("training/",),
    "ray": ("training/data/",),
    "threadpoolctl": ("training/data/",),
    "tensorboard": ("training/",),
    "torchmetrics": ("evaluation/",),
    "gradio": ("app/",),
    "fastapi": ("app/",),
    "starlette": ("app/",),
    "uvicorn": ("app/",),
    "transformers": ("motion/hubert.py",),
    "tyro": ("cli.py",),
    "rich": ("cli.py",),
}

#: Calls by which a media file or a pickle would be opened -> where they may stand.
CALLS_ONLY_IN: dict[tuple[str, str], tuple[str, ...]] = {
    ("Image", "open"): ("media/",),
    ("cv2", "imread"): (),
    ("cv2", "imwrite"): (),
    ("cv2", "VideoCapture"): (),
    ("cv2", "VideoWriter"): (),
    ("torch", "load"): ("weights/", "training/"),
    ("torch", "save"): ("training/",),
}

#: What `import triportrait` may never pull in.
HEAVY = {
    "mediapipe",
    "cv2",
    "av",
    "numba",
    "scipy",
    "PIL",
    "soundfile",
    "c2pa",
    "matplotlib",
    "tyro",
    "rich",
    "pydantic",
}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names of all modules a file imports, with their lines; ``from a import b`` counts as ``a.b``."""
    package = ["triportrait", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def allowed(path: Path, places: tuple[str, ...]) -> bool:
    return any(name_of(path).startswith(place) if place.endswith("/") else name_of(path) == place for place in places)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_import_only_what_they_may(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_IMPORT, f"the room {room!r} is not in the table of tests/test_house.py"
    for module, line in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "triportrait" and len(parts) > 1 and parts[1] != "__version__":
            wrong = parts[1] != room and parts[1] not in MAY_IMPORT[room]
            assert not wrong, f"{name_of(path)}:{line} imports {module}; {room} may import {sorted(MAY_IMPORT[room])}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_outside_packages_stay_where_they_belong(path: Path) -> None:
    for module, line in imported_modules(path):
        places = ONLY_IN.get(module.split(".")[0])
        assert places is None or allowed(path, places), f"{name_of(path)}:{line} imports {module}; only {places} may"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_media_and_weights_are_opened_in_one_place(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            places = CALLS_ONLY_IN.get((node.value.id, node.attr))
            where = f"{name_of(path)}:{node.lineno} uses {node.value.id}.{node.attr}"
            assert places is None or allowed(path, places), f"{where}; only {places} may"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_kernels_are_compiled_through_one_door(path: Path) -> None:
    """numba's own ``njit(cache=True)`` fails where nothing can be written."""
    if room_of(path) == "compiling":
        return
    text = path.read_text(encoding="utf-8")
    assert not any(module.startswith(("numba.njit", "numba.jit", "numba.vectorize")) for module, _ in imported_modules(path)), name_of(path)
    assert "import numba\n" not in text, f"{name_of(path)} imports numba; take njit from triportrait.compiling"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_torch_load_never_runs_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            assert safe, f"{name_of(path)}:{node.lineno} calls torch.load without weights_only=True"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    if room_of(path) == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        printing = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not printing, f"{name_of(path)}:{node.lineno} prints; use logging"


def modules_after(statement: str) -> set[str]:
    """Top-level names in ``sys.modules`` of a fresh interpreter after ``statement``."""
    code = f"{statement}\nimport json, sys; print('@' + json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.rsplit("@", 1)[1]))


@pytest.mark.parametrize("module", ["triportrait", "triportrait.types", "triportrait.errors"])
def test_importing_the_package_needs_torch_and_numpy_at_most(module: str) -> None:
    assert not modules_after(f"import {module}") & HEAVY


@pytest.mark.parametrize("room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_entering_a_room_costs_nothing(room: str) -> None:
    assert not modules_after(f"import triportrait.{room}") & (HEAVY | {"torch"})


@pytest.mark.skipif(not (PACKAGE / "cli.py").exists(), reason="the command line is not built yet")
def test_help_is_answered_without_the_heavy_packages() -> None:
    code = "import sys; from triportrait.cli import main\nsys.argv = ['triportrait', '--help']\n"
    loaded = modules_after(f"{code}try: main()\nexcept SystemExit as end: assert not end.code, end.code")
    assert not loaded & ((HEAVY | {"torch", "numpy"}) - {"tyro", "rich", "pydantic"})


@pytest.mark.parametrize("name", sorted(triportrait._EXPORTS))
def test_every_export_can_be_had(name: str) -> None:
    module = triportrait._EXPORTS[name]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not built yet")
    assert getattr(triportrait, name) is getattr(importlib.import_module(module), name)
    assert name in dir(triportrait)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = triportrait.no_such_name
