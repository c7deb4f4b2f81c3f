"""The laws of the house: who may import whom, what stays where. The tables below are the only copy of the rules."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import triportrait
from triportrait.cli import COMMANDS

PACKAGE = Path(triportrait.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"types", "errors", "files", "array_files", "compiling", "concurrency", "geometry"}
STAGES = {"media", "face", "motion", "avatar", "composite", "provenance"}
#: What joins the stages. Each may use those before it; published systems stand between those that drive and the list of avatars.
DRIVING = ["background", "driver_files", "shot_motion", "drivers", "reenactment", "performance"]
JOINS = [*DRIVING, "speakers", "model", "looks", "person_files", "pipeline"]
PAPERS = {"real3d", "talk3d", "erlnet"}
BELOW_THE_TOP = GROUND | STAGES | PAPERS | {"nn", "weights", "presets", "personal", "live", *JOINS}

#: Room (or module of the top level) -> rooms it may import, besides itself. Imports inside functions count.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "compiling": set(),
    "kernels_ahead": {"compiling"},
    "concurrency": {"errors"},
    "array_files": {"errors", "types"},
    "files": {"errors", "types", "concurrency"},
    "geometry": {"errors", "types", "compiling"},
    "nn": GROUND,
    **{stage: GROUND | {"nn"} for stage in STAGES},
    "weights": GROUND,
    **{join: GROUND | STAGES | {"nn", *DRIVING[:index]} for index, join in enumerate(DRIVING)},
    "real3d": GROUND | STAGES | {"nn", "weights", *DRIVING},
    "talk3d": GROUND | STAGES | {"nn", "weights", *DRIVING},
    "erlnet": GROUND | STAGES | {"nn", *DRIVING},
    "speakers": GROUND | STAGES | PAPERS | {"nn", *DRIVING},
    # Talk3D draws with EG3D's generator and renderer, which live in real3d: here, and not in the papers' rooms, they meet.
    "personal": GROUND | STAGES | PAPERS | {"nn", "weights", *DRIVING},
    "model": GROUND | STAGES | PAPERS | {"nn", *DRIVING},
    "looks": GROUND | STAGES | {"nn", "model"},
    "person_files": GROUND | STAGES | {"nn", "drivers"},
    # A verb of Portrait, so it lies below the pipeline; what serves it to others sits on top.
    "live": GROUND | STAGES | {"nn", *DRIVING, "model"},
    "pipeline": GROUND | STAGES | {"nn", *DRIVING, "speakers", "model", "looks", "person_files", "live"},
    "presets": GROUND | STAGES | PAPERS | {"nn"},
    "synth": GROUND | STAGES | {"nn"},
    "training": BELOW_THE_TOP | {"synth"},
    "evaluation": BELOW_THE_TOP,
    "app": BELOW_THE_TOP | {"export"},
    "export": BELOW_THE_TOP,
    "doctor": BELOW_THE_TOP,
    "cli": BELOW_THE_TOP | {"kernels_ahead", "doctor", "synth", "training", "evaluation", "app", "export"},
    "__main__": {"cli"},
    # The package itself names its exports as text and looks them up when they are used.
    "__init__": set(),
}

#: Outside package -> the files (or folders, ending in /) that may import it.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "mediapipe": (),
    "onnxruntime": ("nn/runtime.py",),
    "av": ("media/",),
    "soundfile": ("media/",),
    "imageio": (),
    "torchvision": (),
    "torchaudio": (),
    # Unpicklers that build arrays and plain containers, or inert records, only: FLAME and EG3D are published as pickles.
    "pickle": ("face/flame.py", "weights/inert_pickle.py"),
    "c2pa": ("provenance/",),
    "aiortc": ("app/live_rtc.py",),
    "aioice": ("app/live_rtc.py",),
    "lightning": ("training/",),
    "webdataset": ("training/",),
    "ray": ("training/data/", "app/ray_workers.py"),
    "tensorboard": ("training/",),
    "torchmetrics": ("evaluation/",),
    "threadpoolctl": ("concurrency.py", "training/data/"),
    "transformers": ("nn/speech_networks.py",),
    # Belongs to the extras: no video is made with it.
    "scipy": ("array_files.py", "face/flame.py", "evaluation/", "synth/"),
    "pyvirtualcam": ("media/devices.py",),
    "sounddevice": ("media/devices.py",),
    "tyro": ("cli/",),
    "fastapi": ("app/",),
    "starlette": ("app/",),
    "uvicorn": ("cli/serve.py",),
    "python_multipart": ("app/",),
    "rich": ("cli/",),
}

#: Calls by which a media file or a pickle would be opened -> where they may stand.
CALLS_ONLY_IN: dict[tuple[str, str], tuple[str, ...]] = {
    ("Image", "open"): ("media/",),
    ("cv2", "imread"): (),
    ("cv2", "imwrite"): (),
    ("cv2", "VideoCapture"): ("media/devices.py",),
    ("cv2", "VideoWriter"): (),
    ("torch", "load"): ("weights/", "training/"),
    ("torch", "save"): ("training/",),
}

#: What `import triportrait` may never pull in.
HEAVY = {"onnxruntime", "cv2", "av", "numba", "scipy", "PIL", "soundfile", "c2pa", "matplotlib", "tyro", "rich", "pydantic"}

#: Modules that another process runs by name, and modules that only a test or a benchmark imports, with the reason.
ENTRANCES = {
    "triportrait.__main__": "python -m triportrait",
    "triportrait.cli.__main__": "python -m triportrait.cli",
    "triportrait.app.photo_child": "a limited process that prepares uploaded photos",
    "triportrait.kernels_ahead": "a process that compiles kernels for a video",
    "triportrait.training.data.worker": "a process of 'triportrait data prepare'",
    "triportrait.app.worker": "a process of 'triportrait serve' that makes videos",
    "triportrait.app.live_process": "a process of 'triportrait serve' that draws one live portrait",
    "triportrait.weights.reading_child": "a limited process that reads foreign checkpoints",
    "triportrait.avatar.oneshot.guide_plain": "the plain twin of avatar/oneshot/guide.py, which a test holds against it",
    "triportrait.synth.deferred_torch": "the torch twin of synth/deferred.py, which a test holds against it",
}

#: The command line names its modules as text and imports the one that is asked for.
COMMAND_MODULES = [module for module, _ in COMMANDS.values()]


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(["triportrait", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names of all modules a file imports, with their lines; ``from a import b`` counts as ``a.b``."""
    package = ["triportrait", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


@cache
def import_graph() -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, inside functions and for type checking, too."""
    modules = {module_of(path) for path in FILES}
    graph: dict[str, set[str]] = {}
    for path in FILES:
        own = module_of(path)
        found = {name if name in modules else name.rpartition(".")[0] for name, _ in imported_modules(path)}
        graph[own] = (found & modules) - {own, "triportrait"}
    return graph


def allowed(path: Path, places: tuple[str, ...]) -> bool:
    return any(name_of(path).startswith(place) if place.endswith("/") else name_of(path) == place for place in places)


def test_rooms_import_only_what_they_may() -> None:
    assert {room_of(path) for path in FILES} == set(MAY_IMPORT), "the table of tests/test_house.py names each room once"
    wrong = []
    for path in FILES:
        room = room_of(path)
        for module, line in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "triportrait" and len(parts) > 1 and parts[1] != "__version__" and parts[1] not in {room, *MAY_IMPORT[room]}:
                wrong.append(f"{name_of(path)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_imports_go_round_in_no_circle() -> None:
    graph, done = import_graph(), set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"a circle: {' -> '.join([*above[above.index(module) :], module])}"
        if module not in done:
            for other in graph[module]:
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_every_module_is_reached_from_the_command_line_or_the_public_interface() -> None:
    graph = import_graph()
    open_, reached = [*ENTRANCES, "triportrait.cli", *COMMAND_MODULES, *triportrait._EXPORTS.values()], set()
    while open_:
        module = open_.pop()
        if module not in reached:
            reached.add(module)
            open_ += graph[module]
    rooms = {module_of(path) for path in FILES if path.name == "__init__.py"}
    assert not set(graph) - reached - rooms


def test_outside_packages_stay_where_they_belong() -> None:
    wrong = [
        f"{name_of(path)}:{line} imports {module}"
        for path in FILES
        for module, line in imported_modules(path)
        if (places := ONLY_IN.get(module.split(".")[0])) is not None and not allowed(path, places)
    ]
    assert not wrong, "\n".join(wrong)


def test_media_and_weights_are_opened_in_one_place() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno} uses {node.value.id}.{node.attr}"
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if (places := CALLS_ONLY_IN.get((node.value.id, node.attr))) is not None and not allowed(path, places)
    ]
    assert not wrong, "\n".join(wrong)


def test_kernels_are_compiled_through_one_door() -> None:
    """numba's own ``njit(cache=True)`` fails where nothing can be written."""
    wrong = [
        f"{name_of(path)}:{line} imports {module}; take njit from triportrait.compiling"
        for path in FILES
        if room_of(path) != "compiling"
        for module, line in imported_modules(path)
        if module == "numba" or module.startswith(("numba.njit", "numba.jit", "numba.vectorize"))
    ]
    assert not wrong, "\n".join(wrong)


def test_torch_load_never_runs_code() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
                assert safe, f"{name_of(path)}:{node.lineno} calls torch.load without weights_only=True"


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno} prints; use logging"
        for path in FILES
        if room_of(path) != "cli"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong, "\n".join(wrong)


def test_functions_and_files_can_be_read_in_one_sitting() -> None:
    """At most 100 lines a function, kernels apart, and 600 a file."""
    long = [f"{name_of(path)} has {count} lines" for path in FILES if (count := len(path.read_text(encoding="utf-8").splitlines())) > 600]
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                count = node.end_lineno - node.lineno + 1
                kernel = any("njit" in ast.unparse(decorator) for decorator in node.decorator_list)
                if count > 100 and not kernel:
                    long.append(f"{name_of(path)}: {node.name} has {count} lines")
    assert not long, "\n".join(long)


def modules_after(statement: str) -> set[str]:
    """Top-level names in ``sys.modules`` of a fresh interpreter after ``statement``."""
    code = f"{statement}\nimport json, sys; print('@' + json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.rsplit("@", 1)[1]))


def test_importing_the_package_needs_torch_and_numpy_at_most() -> None:
    assert not modules_after("import triportrait, triportrait.types, triportrait.errors") & HEAVY


def test_entering_a_room_costs_nothing() -> None:
    rooms = sorted(module_of(path) for path in PACKAGE.rglob("__init__.py"))
    assert not modules_after(f"import {', '.join(rooms)}") & (HEAVY | {"torch"})


def test_help_is_answered_without_the_heavy_packages() -> None:
    code = "import sys; from triportrait.cli import main\nsys.argv = ['triportrait', '--help']\n"
    loaded = modules_after(f"{code}try: main()\nexcept SystemExit as end: assert not end.code, end.code")
    assert not loaded & ((HEAVY | {"torch", "numpy"}) - {"tyro", "rich", "pydantic"})


@pytest.mark.parametrize("name", sorted(triportrait._EXPORTS))
def test_every_export_can_be_had(name: str) -> None:
    module = triportrait._EXPORTS[name]
    assert getattr(triportrait, name) is getattr(importlib.import_module(module), name)
    assert name in dir(triportrait)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = triportrait.no_such_name
