"""Reading foreign weight files without trusting them.

Safetensors hold numbers only and are opened here. Everything else is a pickle in some wrapping and is read in a child
process under limits (:mod:`triportrait.weights.reading_child`); its tensors come back as safetensors. A file that cannot
be read that way is refused; there is no second, less careful way.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from triportrait.array_files import not_finite
from triportrait.errors import WeightsError, quoted
from triportrait.weights.names import NETWORKS, NameClash, split_networks

if TYPE_CHECKING:
    import torch

FileKind = Literal["torch_legacy", "torch_zip", "network_pickle", "safetensors"]

#: Nothing larger is opened. The largest published file, with its optimiser, is below 3 GB.
MAXIMUM_BYTES = 16 << 30
#: Tensors may need this many times the file's size: names that share a storage are copied apart.
EXPANSION = 2

_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_STEPS = re.compile(r"model_ckpt_steps_(\d+)\.ckpt")
_PROGRAM = "an exported program (.pt2), which is never opened because it can contain code; get the .ckpt instead."
_AGAIN = "download it again from its authors"


@dataclass(frozen=True)
class CheckpointInfo:
    """Where tensors came from.

    Attributes:
        path: the file that was read (inside the folder, when a folder was given).
        kind: its format.
        sha256: of the whole file.
        size_bytes: of the whole file.
        network: which network of the file the tensors are ('model', 'G_ema', ...).
        others: further networks in the file, left out.
        step: training step, where the file says.
        settings: plain settings found beside the tensors (EG3D's rendering options); foreign text, only to be shown.
        metadata: a safetensors file's own metadata.
    """

    path: Path
    kind: FileKind
    sha256: str
    size_bytes: int
    network: str
    others: tuple[str, ...] = ()
    step: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of one network, flat, under the names their authors gave them; contiguous, on the CPU, all finite."""

    tensors: dict[str, torch.Tensor]
    info: CheckpointInfo


def read_checkpoint(path: str | os.PathLike[str], network: str | None = None, *, timeout_s: float | None = None) -> Checkpoint:
    """Read the tensors of a published checkpoint.

    Args:
        path: a ``.ckpt``/``.pth``/``.pt`` of torch (legacy or zip), a network pickle (``.pkl``), a ``.safetensors``, or a
            folder: its ``model_ckpt_steps_*.ckpt`` with the largest number is taken.
        network: which network of the file; by default ``model``, ``G_ema`` or ``G``, whichever is there.
        timeout_s: how long the child may take; by default two minutes and a second for every 10 MB.

    Raises:
        WeightsError: missing, cut off, damaged, of another kind, with code, NaN or infinity in it; nothing was executed.
    """
    file = newest_checkpoint(Path(path))
    size = file.stat().st_size
    if size > MAXIMUM_BYTES:
        raise WeightsError(f"'{file}' has {size / 1e9:.1f} GB, more than any checkpoint read here; check that it is the right file.")
    kind = file_kind(file)
    if kind == "safetensors":
        named, metadata = load_safetensors(file)
        try:
            networks = {part: {key: named[name] for key, name in names.items()} for part, names in split_networks(named).items()}
        except NameClash as clash:
            raise WeightsError(f"'{file}' holds the key '{clash}' twice; {_AGAIN}.") from None
        answer: dict[str, Any] = {"step": None, "settings": {}}
    else:
        networks, answer = _read_in_child(file, kind, size, timeout_s)
        metadata = {}
    chosen = network or next((name for name in NETWORKS if networks.get(name)), None) or next(iter(networks), "")
    if not networks.get(chosen):
        raise WeightsError(f"'{file}' holds no network '{chosen or 'model'}'; it holds {', '.join(sorted(networks)) or 'nothing'}.")
    tensors = networks[chosen]
    refuse_not_finite(tensors, file)
    others = tuple(sorted(set(networks) - {chosen}))
    info = CheckpointInfo(
        path=file,
        kind=kind,
        sha256=sha256_of(file),
        size_bytes=size,
        network=chosen,
        others=others,
        step=answer["step"],
        settings=answer["settings"],
        metadata=metadata,
    )
    return Checkpoint(tensors, info)


def newest_checkpoint(path: Path) -> Path:
    """The file itself, or a folder's ``model_ckpt_steps_*.ckpt`` with the largest number.

    Raises:
        WeightsError: neither is there, or not an ordinary readable file.
    """
    if path.is_dir():
        steps = {int(match[1]): entry for entry in path.iterdir() if (match := _STEPS.fullmatch(entry.name))}
        if not steps:
            raise WeightsError(f"The folder '{path}' holds no model_ckpt_steps_*.ckpt; name the checkpoint file itself.")
        path = steps[max(steps)]
    if not path.exists():
        raise WeightsError(f"There is no file '{path}'; check the path, or see 'triportrait weights list' for where to get it.")
    if not path.is_file():
        raise WeightsError(f"'{path}' is not an ordinary file; copy it to one first.")
    if not os.access(path, os.R_OK):
        raise WeightsError(f"'{path}' may not be read; change its rights.")
    if path.stat().st_size == 0:
        raise WeightsError(f"'{path}' is an empty file; {_AGAIN}.")
    return path


def file_kind(path: Path) -> FileKind:
    """The format of a weight file, from its bytes and not from its name.

    Raises:
        WeightsError: an exported program (``.pt2``, TorchScript), an archive, a web page, or nothing known.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if path.suffix.lower() == ".pt2":
        raise WeightsError(f"'{path}' is {_PROGRAM}")
    if head.startswith(_LEGACY_MAGIC):
        return "torch_legacy"
    if head.startswith(b"PK"):
        _check_zip(path)
        return "torch_zip"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100 << 20:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "network_pickle"
    if head.lstrip()[:1] == b"<":
        raise WeightsError(f"'{path}' is a web page, probably the download page instead of the file; {_AGAIN}.")
    raise WeightsError(f"'{path}' is no checkpoint of a kind that is read here (torch .ckpt, network .pkl or .safetensors); {_AGAIN}.")


def load_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors and the metadata of a safetensors file.

    Raises:
        WeightsError: cut off or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"'{path}' is cut off or damaged ({error}); {_AGAIN}.") from error


def refuse_not_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise WeightsError with the first key, in file order, that holds NaN or infinity."""
    if (name := not_finite(tensors)) is not None:
        raise WeightsError(f"'{path}' holds NaN or infinity in {quoted(name)}; {_AGAIN}.")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_zip(path: Path) -> None:
    """Refuse archives that are not plain torch checkpoints, before anything unpacks them."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(f"'{path}' is cut off or damaged ({error}); {_AGAIN}.") from error
    names = {entry.filename.partition("/")[2] for entry in entries}
    whole = {entry.filename for entry in entries}
    if "archive_format" in names | whole or any(name.startswith("models/") for name in names | whole):
        raise WeightsError(f"'{path}' is {_PROGRAM}")
    if any(name.startswith("code/") or name == "constants.pkl" for name in names):
        raise WeightsError(f"'{path}' is {_PROGRAM.replace('an exported program (.pt2)', 'a TorchScript program')}")
    if "data.pkl" not in names:
        raise WeightsError(f"'{path}' is a zip archive and no checkpoint; unpack it and name the .ckpt inside.")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(f"'{path}' is compressed inside, which checkpoints never are; {_AGAIN}.")


def _read_in_child(
    file: Path, kind: FileKind, size: int, timeout_s: float | None
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    limit = EXPANSION * size + (1 << 20)
    seconds = int(120 + size / 10e6)
    package = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="triportrait-weights-") as folder:
        # -P keeps the working folder off the path of modules.
        command = [sys.executable, "-P", "-m", "triportrait.weights.reading_child"]
        command += [os.path.abspath(file), kind, folder, str(limit), str(seconds)]
        try:
            child = subprocess.run(
                command,
                cwd=folder,
                env={**_environment(), "PYTHONPATH": str(package), "TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s or seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise WeightsError(f"Reading '{file}' took longer than {timeout_s or seconds:.0f} s and was stopped; {_AGAIN}.") from None
        answer = _answer(child, file)
        tensors, _ = load_safetensors(Path(folder) / "tensors.safetensors")
        # Copies: the file that the tensors are mapped from vanishes with the folder.
        networks = {network: {key: tensors[f"{network}/{key}"].clone() for key in keys} for network, keys in answer["networks"].items()}
    return networks, answer


def _environment() -> dict[str, str]:
    """What a child of Python needs, and none of the user's tokens and keys."""
    kept = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL")
    # Without its own compile threads and GPUs the child stays small.
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _answer(child: subprocess.CompletedProcess[bytes], file: Path) -> dict[str, Any]:
    from triportrait.weights.reading_child import FORBIDDEN_STATUS

    if child.returncode == FORBIDDEN_STATUS:
        raise WeightsError(f"'{file}' tried to run a program or write a file and was stopped; do not use it.")
    if child.returncode in {-getattr(signal, name) for name in ("SIGXCPU", "SIGKILL") if hasattr(signal, name)}:
        raise WeightsError(f"Reading '{file}' needed more time or memory than a checkpoint of its size does; {_AGAIN}.")
    if child.returncode:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"status {child.returncode}"]
        raise WeightsError(f"'{file}' could not be read (the reading process failed: {last[0][:200]}); {_AGAIN}.")
    try:
        answer = json.loads(child.stdout.decode().splitlines()[-1])
    except (ValueError, IndexError):
        raise WeightsError(f"'{file}' could not be read (the reading process gave no answer); {_AGAIN}.") from None
    if "error" in answer:
        raise WeightsError(f"'{file}' {answer['error']}; {_AGAIN}.")
    return answer
