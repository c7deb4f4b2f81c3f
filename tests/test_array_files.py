"""Files of arrays that lie: nothing is allocated on their word."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.io import savemat

import triportrait
from triportrait.array_files import ArrayArchive, ArrayFileError, not_finite, read_mat, read_npy
from triportrait.avatar.mouth.painter_network import load_mouth_painter, save_mouth_painter
from triportrait.avatar.oneshot.image_to_plane import load_image_to_plane, save_image_to_plane
from triportrait.errors import WeightsError
from triportrait.face import coverings, open_head
from triportrait.motion.audio_network import load_model, save_model
from triportrait.motion.sync_expert import load_sync_expert, save_sync_expert

PACKAGE = Path(triportrait.__file__).parent


def header(shape: tuple[int, ...], descr: object = "<f4") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archive(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(f"{name}.npy", data)
    return path


@pytest.mark.parametrize("fortran", [False, True])
def test_arrays_come_back(tmp_path: Path, fortran: bool) -> None:
    array = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    array = np.asfortranarray(array) if fortran else array
    np.savez_compressed(tmp_path / "a.npz", array=array, names=np.array(["a", "bc"]), other=np.zeros(3))
    with ArrayArchive(tmp_path / "a.npz", ["array", "names"]) as file:
        assert set(file.headers) == {"array", "names"}
        np.testing.assert_array_equal(file.read("array"), array)
        assert file.read("names").tolist() == ["a", "bc"]
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", 1 << 20), array)


@pytest.mark.parametrize("descr", ["|O", [("a", "<f4")], "<M8[s]", "|V8", ("<f4", (3,))])
def test_only_plain_kinds_are_read(tmp_path: Path, descr: object) -> None:
    path = archive(tmp_path / "a.npz", a=header((1,), descr) + bytes(100))
    with pytest.raises(ArrayFileError):
        ArrayArchive(path, ["a"])


@pytest.mark.parametrize("shape", [(10**12,), (2**62, 8), (3, 10**9)])
def test_shapes_beyond_the_file_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ArrayFileError):
        ArrayArchive(archive(tmp_path / "a.npz", a=header(shape) + bytes(1000)), ["a"])
    (tmp_path / "a.npy").write_bytes(header(shape) + bytes(1000))
    with pytest.raises(ArrayFileError):
        read_npy(tmp_path / "a.npy", 1 << 40)


def test_a_list_of_contents_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArrayFileError, match="more than"):
        ArrayArchive(archive(tmp_path / "a.npz", **{f"array_{i}": b"" for i in range(5000)}), ["array_0"])


def test_matlab_files_come_back(tmp_path: Path) -> None:
    arrays = {"mean": np.arange(12.0).reshape(3, 4), "tri": np.arange(6, dtype=np.int32).reshape(2, 3)}
    for compressed in (False, True):
        savemat(tmp_path / "a.mat", arrays | {"text": "hello"}, do_compression=compressed)
        found = read_mat(tmp_path / "a.mat", ["mean", "tri", "absent"], 1 << 20)
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("value", ["text", {"a": 1.0}, np.array([1 + 2j])])
def test_matlab_files_of_other_kinds_are_refused(tmp_path: Path, value: object) -> None:
    savemat(tmp_path / "a.mat", {"mean": value})
    with pytest.raises(ArrayFileError, match="another kind"):
        read_mat(tmp_path / "a.mat", ["mean"], 1 << 20)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_headers_that_lie_are_refused(tmp_path: Path, compressed: bool) -> None:
    savemat(tmp_path / "a.mat", {"mean": np.zeros((3, 4))}, do_compression=compressed)
    data = bytearray((tmp_path / "a.mat").read_bytes())
    body = bytearray(zlib.decompress(data[136:])) if compressed else data[128:]
    at = body.index(struct.pack("<2i", 3, 4))
    body[at : at + 8] = struct.pack("<2i", 30_000, 40_000)
    if compressed:
        packed = zlib.compress(body)
        body = bytearray(struct.pack("<2I", 15, len(packed)) + packed)
    (tmp_path / "a.mat").write_bytes(data[:128] + body)
    with pytest.raises(ArrayFileError, match="damaged"):
        read_mat(tmp_path / "a.mat", ["mean"], 1 << 40)


def test_matlab_files_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"mean": np.zeros((1000, 300))}, do_compression=True)
    with pytest.raises(ArrayFileError, match="more than 1 MB"):
        read_mat(tmp_path / "a.mat", ["mean"], 1 << 20)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_names_the_first(value: float) -> None:
    assert not_finite({"a": np.zeros(3), "b": np.array([1, 2])}) is None
    assert not_finite({"a": np.zeros(3), "b": np.array([0, value])}) == "b"
    assert not_finite({"a": torch.zeros(3, dtype=torch.int64), "b": torch.tensor([value])}) == "b"


def spoilt(path: Path, target: Path, value: float) -> Path:
    """A weights file with one number of its last tensor replaced."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[-1] = value
    save_file(tensors, target, metadata=metadata)
    return target


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("load", "save"),
    [
        (load_mouth_painter, save_mouth_painter),
        (load_image_to_plane, save_image_to_plane),
        (load_sync_expert, save_sync_expert),
        (load_model, save_model),
    ],
)
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, load, save, value: float) -> None:
    whole = tmp_path / "whole.safetensors"
    save(load(), whole)
    with pytest.raises(WeightsError, match="NaN or infinity"):
        load(spoilt(whole, tmp_path / "weights.safetensors", value))


def test_a_cover_network_of_no_numbers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = PACKAGE / "face" / "data" / "coverings.safetensors"
    monkeypatch.setattr(coverings, "_EMBEDDED", spoilt(path, tmp_path / "weights.safetensors", np.nan))
    with pytest.raises(WeightsError, match="NaN or infinity"):
        coverings.cover_network.__wrapped__()


def test_a_head_of_no_numbers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = load_file(PACKAGE / "face" / "data" / "open_head.safetensors")
    tensors["mean"][5] = np.nan
    save_file(tensors, tmp_path / "open_head.safetensors")
    monkeypatch.setattr(open_head, "_EMBEDDED", tmp_path / "open_head.safetensors")
    with pytest.raises(WeightsError, match="'mean'"):
        open_head.OpenHead.embedded.__func__.__wrapped__(open_head.OpenHead)
