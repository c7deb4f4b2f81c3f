"""Networks where videos are made: ONNX Runtime's answers are torch's, OpenVINO is a matter of taste, and files that lie are refused."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from triportrait.avatar.mouth import painter
from triportrait.avatar.mouth.painter_network import as_graph, load_mouth_painter
from triportrait.errors import WeightsError
from triportrait.nn import runtime
from triportrait.nn.export import TorchGraph, export_graph
from triportrait.nn.model_files import load_network

INSTALLED = importlib.util.find_spec("openvino") is not None


class Scale(nn.Module):
    """Rows [n, 40] to rows [n, 2], with a layer that the graph does not use."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(width, 2), nn.Linear(3, 3)


class Step(nn.Module):
    def __init__(self, network: Scale) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network.used(rows) + shift, shift + 1


SHAPES = {"rows": (None, 40), "shift": (1,)}


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scale, Path]:
    torch.manual_seed(0)
    network, path = Scale(), tmp_path_factory.mktemp("graph") / "scale.onnx"
    config = {"width": 40, "names": ("a", "b")}
    export_graph(path, Step(network), SHAPES, ["scaled", "next"], kind="scale.1", config=config, length=3, metadata={"note": "n"})
    return network, path


def test_the_file_answers_like_torch_at_any_length(scale: tuple[Scale, Path]) -> None:
    network, path = scale
    graph, own = runtime.load_graph(path, "scale.1"), TorchGraph(Step(network), {}, SHAPES)
    assert graph.config == {"width": 40, "names": ("a", "b")} and graph.shapes == SHAPES
    for length in (1, 3, 17):
        rows, shift = np.random.default_rng(length).random((length, 40), np.float32), np.ones(1, np.float32)
        for answer, exact in zip(graph(rows, shift), own(rows, shift), strict=True):
            np.testing.assert_allclose(answer, exact, atol=5e-3)
    assert [path] == list(path.parent.iterdir())


def test_training_goes_on_from_the_same_file(scale: tuple[Scale, Path]) -> None:
    network, path = scale
    again = load_network(path, "scale.1", lambda config: Scale(config["width"]))
    for name, value in network.state_dict().items():
        half = value.numel() > 16
        torch.testing.assert_close(again.state_dict()[name], value.half().float() if half else value, rtol=0, atol=0)


def test_files_that_lie_are_refused(scale: tuple[Scale, Path], tmp_path: Path) -> None:
    data = scale[1].read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.onnx").write_text("no network at all")
    for name, words in (("absent", "do not exist"), ("cut", "damaged"), ("text", "damaged")):
        for load in (runtime.load_graph, lambda path, kind: load_network(path, kind, lambda config: Scale())):
            with pytest.raises(WeightsError, match=words):
                load(tmp_path / f"{name}.onnx", "scale.1")
    with pytest.raises(WeightsError, match="holds 'scale.1' where mouth-painter weights"):
        runtime.load_graph(scale[1], "mouth_painter.2")
    with pytest.raises(WeightsError, match="older version"):
        runtime.load_graph(scale[1], "scale.2")


def test_the_embedded_painter_is_the_one_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.FAST, "0")
    channels = np.random.default_rng(0).random((painter.HEIGHT_PX, painter.WIDTH_PX, painter.CHANNELS), np.float32)
    (change,) = painter.load_painter()(channels)
    np.testing.assert_allclose(change, as_graph(load_mouth_painter())(channels)[0], atol=1e-5)


def test_a_video_needs_no_torch() -> None:
    """In a process where torch cannot be imported, a portrait is encoded, its mouth is painted, and a voice becomes motion."""
    code = """
import sys
sys.modules["torch"] = None
import numpy as np
from triportrait.avatar.mouth.painter import load_painter
from triportrait.avatar.oneshot.avatar import CompactOneShotAvatar
from triportrait.avatar.oneshot.planes import load_plane_encoder
from triportrait.face.coverings import load_judge
from triportrait.motion.audio import AudioDriver
from triportrait.types import Waveform
load_painter(), load_plane_encoder(), load_judge()
assert len(AudioDriver(Waveform(np.zeros(16000, np.float32), 16000)).motion()) == 25
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_failure_of_openvino_is_told_in_one_line(
    scale: tuple[Scale, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(runtime.FAST, "fp32")
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "openvino", None)
    with caplog.at_level(logging.WARNING):
        assert isinstance(runtime.load_graph(scale[1], "scale.1", fast=True), runtime.OnnxGraph)
    assert len(caplog.records) == 1 and "TRIPORTRAIT_FAST=0" in caplog.text and caplog.text.count("\n") == 1


@pytest.mark.skipif(not INSTALLED, reason="pip install 'triportrait[fast]'")
def test_nothing_is_reported_over_the_network() -> None:
    """A fresh process in which every connection is an error, and in which the telemetry package would make itself heard."""
    code = """
import socket, sys
def refuse(*arguments, **options): raise SystemExit("network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from triportrait.avatar.mouth.painter import load_painter
from triportrait.nn import runtime
assert not isinstance(load_painter(), runtime.OnnxGraph)
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {runtime.FAST: "fp32"})


@pytest.mark.skipif(not INSTALLED, reason="pip install 'triportrait[fast]'")
@pytest.mark.parametrize(("setting", "most"), [("fp32", 1e-4), ("bf16", 2 / 255)])
def test_openvino_paints_the_same(monkeypatch: pytest.MonkeyPatch, setting: str, most: float) -> None:
    monkeypatch.setenv(runtime.FAST, "0")
    plain = painter.load_painter()
    monkeypatch.setenv(runtime.FAST, setting)
    quick = painter.load_painter()
    assert not isinstance(quick, runtime.OnnxGraph)
    pictures = np.random.default_rng(0).random((4, painter.HEIGHT_PX, painter.WIDTH_PX, painter.CHANNELS), np.float32)
    truth = [plain(one)[0] for one in pictures]
    answers: list[np.ndarray] = [np.zeros(0)] * 4

    def paint(i: int) -> None:
        for _ in range(3):
            (answers[i],) = quick(pictures[i])

    threads = [threading.Thread(target=paint, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer, exact in zip(answers, truth, strict=True):
        np.testing.assert_allclose(answer, exact, atol=most)


def test_onnx_runtime_keeps_no_number_of_the_machine_and_starts_no_thread(tmp_path: Path) -> None:
    """Its wheels from 1.32 on write a device's number and a store of events into the home folder, unless told not to."""
    code = (
        "import os\n"
        "from triportrait.face.segmentation import PersonSegmenter\n"
        "import numpy as np\n"
        "PersonSegmenter()(np.zeros((64, 64, 3), np.uint8))\n"
        "print(len(os.listdir('/proc/self/task')) if os.path.isdir('/proc/self/task') else 1)\n"
    )
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), **one}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "1\n" and done.stderr == ""
    assert list(tmp_path.rglob("*")) == []
