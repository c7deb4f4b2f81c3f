"""Published layouts are read as they are; whatever is broken or means harm is refused, and nothing in it runs."""

from __future__ import annotations

import collections
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import weights_samples
from triportrait.errors import WeightsError
from triportrait.weights import reading
from triportrait.weights.reading import read_checkpoint
from weights_samples import Canary, in_process, network_pickle, published  # noqa: F401

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "b.num_batches_tracked": torch.tensor(7)}


def assert_same(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(tensors) == list(expected)
    for key, tensor in expected.items():
        assert tensors[key].dtype == tensor.dtype and torch.equal(tensors[key], tensor), key


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
def test_nested_layout(tmp_path: Path, legacy: bool) -> None:
    shared_storage = torch.arange(10.0)
    state = STATE | {"c": shared_storage[2:8:2], "d": shared_storage}
    file = published(tmp_path / "x.ckpt", state, legacy=legacy, disc={"e.f": torch.ones(1)})
    checkpoint = read_checkpoint(file)
    assert_same(checkpoint.tensors, state)
    assert checkpoint.info.kind == ("torch_legacy" if legacy else "torch_zip")
    assert checkpoint.info.others == ("disc",) and checkpoint.info.step == 100_000
    assert checkpoint.info.sha256 == reading.sha256_of(file)


@pytest.mark.usefixtures("in_process")
def test_another_network_can_be_asked_for(tmp_path: Path) -> None:
    file = published(tmp_path / "x.ckpt", STATE, disc={"e.f": torch.ones(1)})
    assert_same(read_checkpoint(file, "disc").tensors, {"e.f": torch.ones(1)})
    with pytest.raises(WeightsError, match="'nose'.*disc, model"):
        read_checkpoint(file, "nose")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {f"model.{key}": value for key, value in STATE.items()} | {"disc.e": torch.ones(1)}},
        {f"model._orig_mod.{key}": value for key, value in STATE.items()},
        {"state_dict": {"model": {f"_orig_mod.{key}": value for key, value in STATE.items()}}},
        STATE,
    ],
    ids=["flat", "compiled", "nested_compiled", "bare"],
)
@pytest.mark.usefixtures("in_process")
def test_flat_layouts(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert_same(read_checkpoint(tmp_path / "x.pth").tensors, STATE)


def test_safetensors(tmp_path: Path) -> None:
    save_file({f"model.{key}": value for key, value in STATE.items()}, tmp_path / "x.safetensors")
    tensors = read_checkpoint(tmp_path / "x.safetensors").tensors
    assert_same({key: tensors[key] for key in STATE}, STATE)


@pytest.mark.usefixtures("in_process")
def test_a_folder_means_its_newest_checkpoint(tmp_path: Path) -> None:
    published(tmp_path / "model_ckpt_steps_900.ckpt", {"old.a": torch.zeros(1)})
    published(tmp_path / "model_ckpt_steps_10000.ckpt", STATE)
    assert_same(read_checkpoint(tmp_path).tensors, STATE)


def test_network_pickle_gives_tensors_and_settings_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_samples.PersistentModule, "source", f"open({str(tmp_path / 'canary')!r}, 'w')")
    file = network_pickle(tmp_path / "network.pkl", STATE, frozenset({"b.num_batches_tracked"}), extra=Canary(tmp_path / "canary"))
    checkpoint = read_checkpoint(file)
    assert_same(dict(sorted(checkpoint.tensors.items())), dict(sorted(STATE.items())))
    assert checkpoint.info.network == "G_ema"
    assert checkpoint.info.settings["rendering_kwargs"] == {"depth_resolution": 48, "box_warp": 1}
    assert checkpoint.info.settings["neural_rendering_resolution"] == 128
    assert not (tmp_path / "canary").exists()


@pytest.mark.usefixtures("in_process")
def test_ordinary_pickled_modules_are_read_too(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    (tmp_path / "tuned.pkl").write_bytes(pickle.dumps(module))
    assert_same(read_checkpoint(tmp_path / "tuned.pkl").tensors, dict(module.state_dict()))


def with_code(folder: Path, legacy: bool, wrap: Any) -> Path:
    return published(folder / "x.ckpt", STATE | {"z": wrap(Canary(folder / "canary"))}, legacy=legacy)


HARMFUL = {
    "code, legacy": lambda folder: with_code(folder, True, lambda canary: canary),
    "code, zip": lambda folder: with_code(folder, False, lambda canary: [canary]),
    "code, bare pickle": lambda folder: bare(folder, pickle.dumps(Canary(folder / "canary"))),
    "code, pickle protocol 0": lambda folder: bare(folder, b"\x80\x02cposix\nsystem\n(S'touch " + bytes(folder / "canary") + b"'\ntR."),
    "code in a storage": lambda folder: bare(folder, storage_with_code(folder)),
}


def bare(folder: Path, content: bytes) -> Path:
    (folder / "x.pkl").write_bytes(content)
    return folder / "x.pkl"


def storage_with_code(folder: Path) -> bytes:
    """A network whose storage bytes are themselves a torch file with code in it."""
    torch.save(Canary(folder / "canary"), folder / "inner", _use_new_zipfile_serialization=False)
    inner = (folder / "inner").read_bytes()

    class Storage:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch.storage._load_from_bytes, (inner,)

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), 0, (1,), (1,), False, collections.OrderedDict())

    network = torch.nn.Module()
    network.__dict__["_parameters"] = {"weight": Tensor()}
    return pickle.dumps({"G_ema": network})


@pytest.mark.parametrize("make", HARMFUL.values(), ids=HARMFUL.keys())
def test_code_is_refused_and_not_run(tmp_path: Path, make: Any) -> None:
    with pytest.raises(WeightsError, match=r"code or objects|without a network|cannot be read"):
        read_checkpoint(make(tmp_path))
    assert not (tmp_path / "canary").exists()


def test_the_canaries_would_sing(tmp_path: Path) -> None:
    """The harmful files do run when they are opened carelessly: the tests above can fail."""
    file = with_code(tmp_path, True, lambda canary: canary)
    torch.load(file, weights_only=False)
    assert (tmp_path / "canary").exists()


def cut(file: Path, share: float) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    return file


def with_reach(folder: Path) -> Path:
    """A tensor that claims more numbers than its storage has."""

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            storage = torch.storage.TypedStorage(wrap_storage=torch.zeros(2).untyped_storage(), dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (storage, 0, (1 << 40,), (1,), False, {})

    network = torch.nn.Module()
    network.__dict__["_parameters"] = {"weight": Tensor()}
    return bare(folder, pickle.dumps({"G": network}))


def huge(folder: Path) -> Path:
    """A small file that describes a terabyte: one number, repeated by a stride of zero."""
    return published(folder / "x.ckpt", {"a.b": torch.zeros(1).expand(1 << 38)})


def clash(folder: Path) -> Path:
    torch.save({"model.a.b": torch.zeros(1), "model._orig_mod.a.b": torch.ones(1)}, folder / "x.pth")
    return folder / "x.pth"


def zipped(folder: Path, names: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(folder / "x.ckpt", "w", compression) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return folder / "x.ckpt"


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def safetensors_file(file: Path) -> Path:
    save_file(STATE, file)
    return file


BROKEN = {
    "missing": (lambda folder: folder / "none.ckpt", "There is no file"),
    "folder without checkpoints": (lambda folder: folder, "holds no model_ckpt_steps"),
    "empty": (lambda folder: written(folder / "x.ckpt", b""), "empty file"),
    "text": (lambda folder: written(folder / "x.ckpt", b"hello, I am no checkpoint"), "no checkpoint of a kind"),
    "web page": (lambda folder: written(folder / "x.ckpt", b"<!DOCTYPE html><html>Sign in"), "web page"),
    "pt2 by name": (lambda folder: written(folder / "x.pt2", b"PK\x03\x04"), r"exported program \(.pt2\)"),
    "pt2 inside": (lambda folder: zipped(folder, {"x/archive_format": b"pt2"}), r"exported program \(.pt2\)"),
    "torchscript": (lambda folder: zipped(folder, {"x/data.pkl": b"", "x/code/a.py": b""}), "TorchScript"),
    "some zip": (lambda folder: zipped(folder, {"readme.txt": b"hi"}), "no checkpoint; unpack"),
    "zip bomb": (lambda folder: zipped(folder, {"x/data.pkl": bytes(1 << 20)}, zipfile.ZIP_DEFLATED), "compressed inside"),
    "cut zip": (lambda folder: cut(published(folder / "x.ckpt", STATE, legacy=False), 0.7), "cut off or damaged"),
    "cut legacy": (lambda folder: cut(published(folder / "x.ckpt", STATE), 0.7), "cut off or damaged"),
    "cut pickle": (lambda folder: cut(network_pickle(folder / "x.pkl", STATE), 0.7), "cut off or damaged"),
    "cut safetensors": (lambda folder: cut(safetensors_file(folder / "x.safetensors"), 0.9), "cut off or damaged"),
    "lying safetensors": (lambda folder: written(folder / "x.safetensors", struct.pack("<Q", 40) + b"{" * 50), "cut off or damaged"),
    "beyond its storage": (with_reach, "'weight' reaches beyond its storage"),
    "terabyte": (huge, "larger than the file"),
    "clash": (clash, "'a.b' twice"),
    "nan": (lambda folder: published(folder / "x.ckpt", STATE | {"a.bias": torch.tensor([1.0, torch.nan])}), "NaN or infinity in 'a.bias'"),
    "inf": (lambda folder: network_pickle(folder / "x.pkl", {"w": torch.tensor([torch.inf])}), "NaN or infinity in 'w'"),
    "no tensors": (lambda folder: published(folder / "x.ckpt", {"a.b": "text"}), "'a.b', which is no ordinary tensor"),
    "sparse": (lambda folder: published(folder / "x.ckpt", {"a.b": torch.eye(2).to_sparse()}), "no ordinary tensor|cut off or damaged"),
    "a list": (lambda folder: torch.save([1, 2], folder / "x.pth") or folder / "x.pth", "holds a list"),
}


@pytest.mark.parametrize(("make", "message"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.usefixtures("in_process")
def test_broken_files_are_refused_with_the_reason(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        read_checkpoint(make(tmp_path))
    text = str(caught.value)
    assert text.count("\n") == 0 and text.endswith(".") and "weights_only" not in text


def test_a_child_that_hangs_is_stopped(tmp_path: Path) -> None:
    file = published(tmp_path / "x.ckpt", STATE)
    with pytest.raises(WeightsError, match="took longer"):
        read_checkpoint(file, timeout_s=0.05)


def test_the_fence_of_the_child_stops_programs_and_files(tmp_path: Path) -> None:
    """Even code that got into the child could start nothing and write nowhere else."""
    program = (
        "import os, sys; from pathlib import Path; from triportrait.weights.reading_child import _forbid; "
        "_forbid(Path(sys.argv[1])); open(sys.argv[1] + '/fine', 'w').close(); {}"
    )
    for deed in (
        "os.system('true')",
        "open('/tmp/not-here', 'w')",
        "import socket; socket.socket()",
        "os.remove(sys.argv[1] + '/fine')",
    ):
        child = subprocess.run([sys.executable, "-c", program.format(deed), str(tmp_path)], check=False)
        assert child.returncode == 77, deed
        assert (tmp_path / "fine").exists()
