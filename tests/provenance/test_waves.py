"""The key is a constant of the world: files bear it. And its code tells payloads apart."""

from __future__ import annotations

import hashlib

import numpy as np

from triportrait.provenance.waves import signs, walsh_hadamard, waves


def test_the_key_never_changes() -> None:
    key = waves()
    parts = (key.across, key.down, key.is_mark, key.word, key.row, key.former_row)
    digest = hashlib.sha256(b"".join(part.astype("<i4").tobytes() for part in parts)).hexdigest()
    assert digest == "84bfe02d6d535424fd60fdff51529e28854866036e4c25a988d6f4472a3e328c"
    assert len(key.row) == 5932 and key.is_mark.sum() == 2966


def test_any_two_payloads_differ_in_many_waves() -> None:
    """One bit changes two of the three words, and so about half of two thirds of the payload's waves; no bit touches the mark."""
    key = waves()
    count = np.count_nonzero(~key.is_mark)
    for bit in range(32):
        differs = signs(0x12345678) != signs(0x12345678 ^ 1 << bit)
        assert not differs[key.is_mark].any()
        assert 0.27 < np.count_nonzero(differs) / count < 0.4


def test_all_words_are_tried_at_once() -> None:
    values = np.random.default_rng(0).normal(size=16)
    direct = [sum(value * (-1) ** (word & row).bit_count() for row, value in enumerate(values)) for word in range(16)]
    np.testing.assert_allclose(walsh_hadamard(values), direct)
