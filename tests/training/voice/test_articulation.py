"""The coarticulation model: contacts close, vowels open and round, pauses rest, styles scale."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.motion.lips import lip_opening
from triportrait.training.voice.articulation import ARPABET, VISEMES, Style, curves_from_phones, visemes_of
from triportrait.training.voice.synthesisers import Phone
from triportrait.types import ARKIT_EXPRESSIONS


def phones(text: str, seconds: float = 0.1, start: float = 0.5) -> list[Phone]:
    result = [Phone("pau", 0.0, start)]
    for symbol in text.split():
        result.append(Phone(symbol, result[-1].end_s, result[-1].end_s + seconds))
    return [*result, Phone("pau", result[-1].end_s, result[-1].end_s + 0.6)]


def render(text: str, seconds: float = 0.1, style: Style | None = None) -> tuple[list[Phone], np.ndarray, np.ndarray]:
    said = phones(text, seconds)
    expression, _ = curves_from_phones(said, int(said[-1].end_s * 25), 25.0, style)
    return said, expression, lip_opening(expression, ARKIT_EXPRESSIONS)


def column(name: str) -> int:
    return ARKIT_EXPRESSIONS.index(name)


@pytest.mark.parametrize("seconds", [0.04, 0.07, 0.12])
@pytest.mark.parametrize("seed", range(6))
def test_bilabials_close_whatever_surrounds_them(seconds: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    vowels = ["aa", "iy", "uw", "ae", "ow"]
    words = [w for _ in range(8) for w in (str(random.choice(vowels)), str(random.choice(["p", "b", "m"])))]
    said, expression, opening = render(" ".join([*words, "aa"]), seconds, Style.sample(random))
    for phone in said:
        if visemes_of(phone.symbol) == ("p",):
            row = round((phone.start_s + phone.end_s) / 2 * 25)
            assert opening[max(row - 1, 0) : row + 2].min() < 1e-4
    assert expression.min() >= 0 and expression.max() <= 1


def test_vowels_open_and_round() -> None:
    _, expression, opening = render("t aa t iy t uw t", 0.16)
    middle = {name: round((0.5 + 0.16 * (index + 0.5)) * 25) for index, name in ((1, "aa"), (3, "iy"), (5, "uw"))}
    # Spread lips part nearly as far as an open jaw does (measured on GRID's speakers).
    assert opening[middle["aa"]] > 1.1 * opening[middle["iy"]] > 0.01
    # Rounded lips part by some millimetres only (Fromkin, 1964).
    assert opening[middle["uw"]] < 0.6 * opening[middle["iy"]]
    pucker, stretch = expression[:, column("mouthPucker")], expression[:, column("mouthStretchLeft")]
    assert pucker[middle["uw"]] > 0.35 > 0.1 > pucker[middle["aa"]]
    assert stretch[middle["iy"]] > 2 * stretch[middle["aa"]]


def test_labiodentals_roll_the_lower_lip_and_pauses_rest() -> None:
    _, expression, opening = render("aa f aa", 0.14, Style(breath=0.0))
    row = round((0.5 + 0.21) * 25)
    assert expression[row, column("mouthRollLower")] > 0.4
    assert opening[row] < 0.4 * opening.max()
    assert opening[:8].max() < 1e-4 and opening[-8:].max() < 1e-4


def test_the_mouth_breathes_between_phrases_and_rests_in_silence() -> None:
    said = [Phone("pau", 0.0, 0.5), Phone("aa", 0.5, 0.8), Phone("pau", 0.8, 1.6), Phone("aa", 1.6, 1.9), Phone("pau", 1.9, 5.0)]
    expression, contact = curves_from_phones(said, 125)
    opening = lip_opening(expression, ARKIT_EXPRESSIONS)
    assert opening[:7].max() < 1e-4
    # A pause of 0.8 s is a breath; after the last sound the mouth closes within a second and stays closed.
    assert opening[23:37].min() > 0.1 * opening.max() and contact[23:37].max() < 0.1
    assert opening[round(2.2 * 25)] > 0.1 * opening.max()
    assert opening[round(3.0 * 25) :].max() < 1e-4 and expression[round(3.0 * 25) :, column("jawOpen")].max() < 1e-3
    shut, _ = curves_from_phones(said, 125, style=Style(breath=0.0))
    assert lip_opening(shut, ARKIT_EXPRESSIONS)[28:34].max() < 1e-4


def test_closing_precedes_the_sound_and_coarticulation_spreads() -> None:
    said = phones("aa b aa s uw", 0.12)
    expression, contact = curves_from_phones(said, 45)
    start = said[2].start_s
    before = contact[int((start - 0.03) * 25)]
    assert 0.1 < before
    # The lips round for /u/ during the /s/ before it more than in /aa s iy/.
    other, _ = curves_from_phones(phones("aa b aa s iy", 0.12), 45)
    row = round((said[4].start_s + said[4].end_s) / 2 * 25)
    assert expression[row, column("mouthPucker")] > other[row, column("mouthPucker")] + 0.1


def test_styles_and_loudness_scale_the_opening() -> None:
    usual = render("t aa t aa t", 0.15)[2].max()
    assert render("t aa t aa t", 0.15, Style(opening=1.3))[2].max() > 1.2 * usual
    said = phones("t aa t aa t", 0.15)
    loud = curves_from_phones(said, 40, loudness=np.full(200, 0.9))[0]
    assert lip_opening(loud, ARKIT_EXPRESSIONS).max() > 1.1 * usual


def test_every_symbol_has_a_viseme() -> None:
    assert all(name in VISEMES for names in ARPABET.values() for name in names)
    for symbol, expected in (
        ("aɪ", ("aa", "ih")),
        ("tʃ", ("t", "sh")),
        ("ɔ̃", ("ao",)),
        ("yː", ("yy",)),
        ("_", ("sil",)),
    ):
        assert visemes_of(symbol) == expected
    assert visemes_of("?!") == ("ax",)
