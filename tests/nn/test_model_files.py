"""The one door for our own weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from triportrait.errors import WeightsError
from triportrait.nn.model_files import Embedded, load_arrays, load_network, save_network


class Mixer(nn.Module):
    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.register_buffer("steps", torch.tensor(70_001))  # more than half precision counts


def load(path: Path, kind: str = "mixer.2") -> Mixer:
    return load_network(path, kind, lambda config: Mixer(**config))


def test_a_file_brings_back_network_and_configuration(tmp_path: Path) -> None:
    model, path = Mixer((2, 3, 4)), tmp_path / "m.safetensors"
    save_network(path, model, kind="mixer.2", config={"sizes": model.sizes}, metadata={"note": "a"})
    with torch.inference_mode():  # whoever asks first does not decide for the others
        again = load(path)
    assert again.sizes == (2, 3, 4) and not again.training and not next(again.parameters()).is_inference()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value.half().float() if value.is_floating_point() else value, rtol=0, atol=0)
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "triportrait.mixer.2", "config": '{"sizes": [2, 3, 4]}', "note": "a"}
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_are_stored_as_they_are_and_read_without_torch(tmp_path: Path) -> None:
    numbers = torch.arange(6, dtype=torch.float64).view(2, 3).T
    save_network(tmp_path / "a", {"x": numbers, "n": torch.tensor([3], dtype=torch.int32)}, kind="head.1", config={})
    arrays = load_arrays(tmp_path / "a", "head.1")
    np.testing.assert_array_equal(arrays["x"], numbers.numpy())
    assert arrays["x"].dtype == np.float64 and arrays["n"].dtype == np.int32
    code = (
        f"import sys; from triportrait.nn.model_files import load_arrays; load_arrays({str(tmp_path / 'a')!r}, 'head.1')\n"
        "from triportrait.face.open_head import OpenHead; OpenHead.embedded(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def spoilt(path: Path, **changes: str) -> Path:
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, path, metadata | changes)
    return path


FAULTS = {
    "missing": ("do not exist; check the path", lambda path: path.unlink()),
    "cut off": ("is damaged", lambda path: path.write_bytes(path.read_bytes()[:-10])),
    "no safetensors": ("is damaged", lambda path: path.write_bytes(b"no weights at all")),
    "foreign": ("not a file of mixer weights", lambda path: save_file({"a": torch.zeros(1)}, path)),
    "another kind": ("holds 'sync_expert.1' where mixer weights", lambda path: spoilt(path, format="triportrait.sync_expert.1")),
    "newer": ("newer version", lambda path: spoilt(path, format="triportrait.mixer.10")),
    "older": ("older version", lambda path: spoilt(path, format="triportrait.mixer.1")),
    "no configuration": ("is damaged", lambda path: spoilt(path, config="[]")),
    "wrong configuration": ("is damaged", lambda path: spoilt(path, config='{"sizes": [2, 5, 4]}')),
    "unknown setting": ("is damaged", lambda path: spoilt(path, config='{"size": 2}')),
    "impossible sizes": ("is damaged", lambda path: spoilt(path, config='{"sizes": [2, "x", 4]}')),
    "control characters": (r"\\x1b\[2J", lambda path: spoilt(path, format="triportrait.\x1b[2J.1")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_one_sentence(fault: str, tmp_path: Path) -> None:
    words, spoil = FAULTS[fault]
    path = tmp_path / "m.safetensors"
    save_network(path, Mixer((2, 3, 4)), kind="mixer.2", config={"sizes": (2, 3, 4)})
    spoil(path)
    with pytest.raises(WeightsError, match=words) as caught:
        load(path)
    assert "m.safetensors" in str(caught.value) and "; " in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_named(value: float, tmp_path: Path) -> None:
    model = Mixer((2, 3, 4))
    with torch.no_grad():
        model.layers[1].bias[2] = value
    save_network(tmp_path / "m", model, kind="mixer.2", config={"sizes": (2, 3, 4)})
    with pytest.raises(WeightsError, match=r"NaN or infinity in 'layers\.1\.bias'"):
        load(tmp_path / "m")


def test_files_from_before_formats_are_read_where_there_are_some(tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in Mixer((2, 2)).state_dict().items()}
    save_file(state, tmp_path / "m", {"widths": "2 2"})
    with pytest.raises(WeightsError, match="not a file of mixer weights"):
        load(tmp_path / "m")
    old = load_network(tmp_path / "m", "mixer.2", lambda c: Mixer(**c), before=lambda m: {"sizes": tuple(map(int, m["widths"].split()))})
    assert old.sizes == (2, 2)


def test_a_broken_installation_is_told_to_be_installed_again() -> None:
    with pytest.raises(WeightsError, match="'triportrait/face/data/no.safetensors' do not exist; install the package again"):
        load_arrays(Embedded("triportrait.face", "no.safetensors"), "head.1")
