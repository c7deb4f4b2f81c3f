"""The child process in which foreign pickles are read; started by :mod:`triportrait.weights.reading` alone.

    python -m triportrait.weights.reading_child FILE KIND FOLDER LIMIT_BYTES CPU_SECONDS

It reads FILE, writes ``FOLDER/tensors.safetensors`` and answers one line of JSON on standard output: ``{"networks":
{network: [keys]}, "step": n, "settings": {...}}`` or ``{"error": text}``. Tensors are named ``network/key``.

Three fences stand around a file that means harm: the readers execute nothing they are not told to (``weights_only=True``
with an allow-list of numpy's scalar; a pickle read as inert records); limits of the operating system on memory, time and
file size; and an audit hook that ends the process when a program is started, a connection opened or another file written.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.weights.inert_pickle import (
    InertPickleError,
    mapping_of,
    module_state,
    plain_data,
    read_inert,
    tensors_of_module,
)
from triportrait.weights.names import BARE, NETWORKS, SINGLE, NameClash, split_networks

if TYPE_CHECKING:
    import torch

#: Exit status of the audit hook.
FORBIDDEN_STATUS = 77

#: Beginnings of the names of audit events.
_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "subprocess.Popen",
    "pty.spawn",
    "socket.",
    "urllib.Request",
    "ctypes.dlopen",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.symlink",
    "os.truncate",
    "shutil.",
    "webbrowser.open",
)


#: Networks of a Talk3D checkpoint (spec A.8), which stand beside one another.
_TALK3D = ("deltaplane_predictor", "blink_encoder", "camera_encoder", "audio_net", "audio_att_net", "null_vector")
#: What a tuned one carries besides. EG3D's own has two blocks; any other (GFPGAN's) is named and left out.
_SUPER_RESOLUTION, _EG3D_BLOCKS = "superresolution", ("block0.", "block1.")
#: Objects of a Talk3D checkpoint that nobody reads; their names are given to an inert class.
_UNREAD_OBJECTS = ("torch.optim.adam.Adam", "torch.optim.lr_scheduler.StepLR")


class _Unread:
    """Stands for an object whose class is not wanted; the pickle's state is laid down in it and forgotten."""


def _empty_dict(_factory: Any) -> dict[Any, Any]:
    """What an optimiser keeps its numbers in; torch fills no other dictionary without running code."""
    return {}


class _Refused(Exception):
    """The file is not what it should be; the text completes "'FILE' ..."."""


def main(arguments: list[str]) -> int:
    source, kind, folder = Path(arguments[0]), arguments[1], Path(arguments[2])
    limit_bytes, cpu_seconds = int(arguments[3]), int(arguments[4])
    import numpy  # noqa: F401 - everything is imported before the fences go up
    import safetensors.torch
    import torch

    torch.set_num_threads(1)
    _limit(limit_bytes, cpu_seconds)
    _forbid(folder)
    try:
        answer, tensors = _read_network_pickle(source, limit_bytes) if kind == "network_pickle" else _read_torch(source, limit_bytes)
        safetensors.torch.save_file(tensors, folder / "tensors.safetensors")
    except _Refused as refused:
        answer = {"error": str(refused)}
    except MemoryError:
        answer = {"error": "describes tensors that are larger than the file itself; it is damaged or made to do harm"}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _limit(limit_bytes: int, cpu_seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the wall clock of the parent remains
        return
    used = 4 << 30
    with Path("/proc/self/statm").open(encoding="ascii") if Path("/proc/self/statm").exists() else open(os.devnull) as file:
        used = int((file.read() or "0").split()[0]) * os.sysconf("SC_PAGE_SIZE") or used
    for what, soft in (
        (resource.RLIMIT_AS, used + 2 * limit_bytes + (256 << 20)),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, limit_bytes + (16 << 20)),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(what, (soft, soft))


def _forbid(folder: Path) -> None:
    home = str(folder)

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = details
            writing = (isinstance(mode, str) and set(mode) & set("wxa+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if writing and not (isinstance(path, str | bytes) and os.path.dirname(os.fsdecode(path)) == home):
                os._exit(FORBIDDEN_STATUS)
        elif event.startswith(_FORBIDDEN):
            os._exit(FORBIDDEN_STATUS)

    sys.addaudithook(hook)


def _read_torch(source: Path, limit_bytes: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    import numpy
    import torch

    # 'checkpoint_callback_best' may be a numpy scalar (spec 1.2); numpy 2 moved the function to another module.
    scalar: Any = numpy.float64(0).__reduce__()[0]
    dtype = numpy.dtype
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        dtype,
        *{type(dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "bool")},
        *((_Unread, name) for name in _UNREAD_OBJECTS),
        (_empty_dict, "collections.defaultdict"),
        dict,
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            top = torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged files let almost any exception out
        raise _Refused(_reason(error)) from error
    if isinstance(top, torch.Tensor):  # Talk3D keeps a person's style, cameras and tracks so
        return _hand_over({"model": {SINGLE: top}}, {"step": None, "settings": {}}, limit_bytes)
    if not isinstance(top, Mapping):
        raise _Refused(f"holds a {type(top).__name__} instead of a dictionary of tensors")
    if _TALK3D[0] in top:
        return _hand_over_talk3d(top, limit_bytes)
    state = top.get("state_dict", top)
    if not isinstance(state, Mapping) or not state:
        raise _Refused("holds no 'state_dict' of tensors")
    if all(isinstance(part, Mapping) for part in state.values()):
        networks = {str(network): _keys(part) for network, part in state.items() if part}
    else:
        entries = {name: value for name, value in state.items() if isinstance(name, str)}
        networks = {network: {key: entries[name] for key, name in names.items()} for network, names in _split(entries).items()}
    step = top.get("global_step")
    answer: dict[str, Any] = {"step": int(step) if isinstance(step, int) else None, "settings": {}}
    return _hand_over(networks, answer, limit_bytes)


def _hand_over_talk3d(top: Mapping[Any, Any], limit_bytes: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """One network of several: its keys begin with their names."""
    tensors: dict[str, Any] = {}
    for name in _TALK3D:
        part = top.get(name, {})
        tensors |= {f"{name}.{key}": value for key, value in part.items()} if isinstance(part, Mapping) else {name: part}
    tuned = top.get(_SUPER_RESOLUTION, {})
    is_known = isinstance(tuned, Mapping) and all(str(key).startswith(_EG3D_BLOCKS) for key in tuned)
    if is_known:
        tensors |= {f"{_SUPER_RESOLUTION}.{key}": value for key, value in tuned.items()}
    step = top.get("iter")
    answer, handed = _hand_over({"model": tensors}, {"step": step if isinstance(step, int) else None, "settings": {}}, limit_bytes)
    answer["networks"] |= {} if is_known else {_SUPER_RESOLUTION: []}
    return answer, handed


def _keys(part: Mapping[Any, Any]) -> dict[str, Any]:
    return {key: part[name] for names in _split(map(str, part), prefixes=False).values() for key, name in names.items()}


def _split(names: Any, prefixes: bool = True) -> dict[str, dict[str, str]]:
    try:
        return split_networks(names, prefixes)
    except NameClash as clash:
        raise _Refused(f"holds the key '{clash}' twice") from None


def _read_network_pickle(source: Path, limit_bytes: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        top, mentioned = read_inert(source)
        networks = {str(name): node for name, node in mapping_of(top).items() if module_state(node)}
        if module_state(top):  # Talk3D's tuned generators are bare
            networks = {BARE: top}
        if not networks:
            code = ", ".join(mentioned[:3]) or "nothing"
            raise _Refused(f"is a pickle without a network in it (it mentions {code}); nothing in it was executed")
        chosen = _chosen(networks)
        state = module_state(networks[chosen])
        names = (
            "rendering_kwargs",
            "neural_rendering_resolution",
            "_init_kwargs",
            "img_resolution",
            "z_dim",
            "c_dim",
            "w_dim",
        )
        settings = {name: plain_data(state[name]) for name in names if name in state}
        tensors = {network: tensors_of_module(networks[network], limit_bytes) for network in networks if network in (chosen, "D")}
    except InertPickleError as error:
        raise _Refused(f"cannot be read: {error}") from error
    answer, handed = _hand_over(tensors, {"step": None, "settings": settings}, limit_bytes)
    answer["networks"].update({network: [] for network in networks if network not in tensors})
    return answer, handed


def _chosen(networks: Mapping[str, Any]) -> str:
    return next((name for name in NETWORKS if name in networks), next(iter(networks)))


def _hand_over(
    networks: dict[str, dict[str, Any]], answer: dict[str, Any], limit_bytes: int
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Plain contiguous copies named ``network/key``; anything that is no ordinary tensor is refused by name."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for network, part in networks.items():
        for key, value in part.items():
            if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized or value.is_complex():
                raise _Refused(f"holds '{key}', which is no ordinary tensor ({type(value).__name__})")
            limit_bytes -= value.numel() * value.element_size()
            if limit_bytes < 0:
                raise MemoryError
            # A copy for each name: tensors may share or overlap their storages, which safetensors refuses.
            tensors[f"{network}/{key}"] = value.detach().contiguous().clone()
    return {**answer, "networks": {network: list(part) for network, part in networks.items()}}, tensors


def _reason(error: Exception) -> str:
    """Why torch refused. Its own text is not passed on: it advises to load the file with all it contains."""
    text = str(error)
    if named := re.search(r"GLOBAL `?([\w.]+)", text):
        return f"contains code or objects ('{named[1]}') besides tensors; nothing in it was executed"
    if re.search(r"Trying to (instantiate|call reduce|set)|Unsupported operand|Can only build|unrecognized function", text):
        return "contains code or objects besides tensors; nothing in it was executed"
    return f"is cut off or damaged ({type(error).__name__})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
