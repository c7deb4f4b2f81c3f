"""The extra `fast`: the same answers as torch, and torch itself where OpenVINO is absent or fails."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import threading

import pytest
import torch

from triportrait.avatar.mouth.painter import CHANNELS, HEIGHT_PX, WIDTH_PX, embedded_mouth_painter
from triportrait.nn import fast

INSTALLED = importlib.util.find_spec("openvino") is not None
SHAPE = (1, CHANNELS, HEIGHT_PX, WIDTH_PX)


def test_without_openvino_nothing_changes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    module = torch.nn.Linear(3, 3)
    monkeypatch.setenv(fast.SETTING, "0")
    assert fast.accelerated(module, (1, 3)) is module
    monkeypatch.setenv(fast.SETTING, "fp32")
    monkeypatch.setattr(fast.importlib.util, "find_spec", lambda name: None)
    assert fast.accelerated(module, (1, 3)) is module
    assert not caplog.records


def test_a_failure_is_told_in_one_line_and_torch_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    module = torch.nn.Linear(3, 3)
    monkeypatch.setenv(fast.SETTING, "fp32")
    monkeypatch.setattr(fast.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "openvino", None)
    with caplog.at_level(logging.WARNING):
        assert fast.accelerated(module, (1, 3)) is module
    assert len(caplog.records) == 1 and "TRIPORTRAIT_FAST=0" in caplog.text and caplog.text.count("\n") == 1


@pytest.mark.skipif(not INSTALLED, reason="pip install 'triportrait[fast]'")
def test_nothing_is_reported_over_the_network() -> None:
    """A fresh process in which every connection is an error, and in which the telemetry package would make itself heard."""
    code = """
import socket, sys
def refuse(*arguments, **options): raise SystemExit("network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import torch
from triportrait.nn import fast
network = fast.accelerated(torch.nn.Conv2d(3, 4, 3).eval(), (1, 3, 8, 8))
assert isinstance(network, fast.Compiled), network
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {fast.SETTING: "fp32"})


@pytest.mark.skipif(not INSTALLED, reason="pip install 'triportrait[fast]'")
@pytest.mark.parametrize(("setting", "most"), [("fp32", 1e-4), ("bf16", 1 / 255)])
def test_the_painter_paints_the_same(monkeypatch: pytest.MonkeyPatch, setting: str, most: float) -> None:
    monkeypatch.setenv(fast.SETTING, setting)
    painter = embedded_mouth_painter()
    quick = fast.accelerated(painter, SHAPE)
    assert isinstance(quick, fast.Compiled)
    pictures = torch.rand(4, *SHAPE[1:], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        truth = [painter(one[None]) for one in pictures]
    answers: list[torch.Tensor | None] = [None] * 4

    def paint(i: int) -> None:
        for _ in range(3):
            answers[i] = quick(pictures[i : i + 1].to(memory_format=torch.channels_last))

    threads = [threading.Thread(target=paint, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer, exact in zip(answers, truth, strict=True):
        torch.testing.assert_close(answer, exact, rtol=0, atol=most)
