"""Gradients of convolutions on processors for which torch's own kernels write beyond their memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def sound_gradients() -> Iterator[None]:
    """Leave out oneDNN's convolutions where the processor has AVX2 and not AVX-512.

    There, the weights' gradient of a 1 x 1 convolution whose channels are no multiple of 8 is written beyond its end (oneDNN 3.12 in torch
    2.13, ``jit_avx2_1x1_convolution_bwd_weights_t``), which ends the process sooner or later.
    """
    convolutions: Any = torch.backends.mkldnn  # torch types its switch as the property that stands behind it
    used = convolutions.enabled
    convolutions.enabled = used and torch.backends.cpu.get_cpu_capability() != "AVX2"
    try:
        yield
    finally:
        convolutions.enabled = used
