"""Order of the frequency encoding."""

from __future__ import annotations

import math

import torch

from triportrait.nn.frequency import frequency_encoding


def test_order_is_raw_then_sines_and_cosines_of_each_octave() -> None:
    a, b = 0.3, -1.2
    expected = [a, b]
    for frequency in (1, 2, 4):
        expected += [math.sin(frequency * a), math.sin(frequency * b), math.cos(frequency * a), math.cos(frequency * b)]
    torch.testing.assert_close(frequency_encoding(torch.tensor([[a, b]]), 3), torch.tensor([expected]))
