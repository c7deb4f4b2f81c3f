"""A folder of speech: made once, continued, refused where a synthesiser is missing. The synthesisers are stood in for."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.voice.test_stage import spoken
from triportrait.cli import main
from triportrait.errors import EmptyMedia, MediaError, MissingPart, OptionError
from triportrait.training.options import SpeechOptions
from triportrait.training.voice import speech, synthesisers
from triportrait.training.voice.corpora import load_packed_tracks, load_synthesised
from triportrait.training.voice.synthesisers import Phone, Utterance
from triportrait.types import Waveform

NOTHING = SpeechOptions(clips=0, test_clips=0)


def utterance(text: str, voice: str = "slt", duration_stretch: float = 1.0) -> Utterance:
    """Sound and phonemes that depend on the text alone."""
    clip = spoken(len(text))
    return Utterance(Waveform(clip.samples.astype(np.float32) / 32767, 16_000), clip.phones)


class StandIn:
    """espeak-ng, which has a rate of its own."""

    def speak(self, text: str, *_: object) -> Utterance:
        said = utterance(text)
        return Utterance(Waveform(np.repeat(said.waveform.samples, 2), 32_000), said.phones)


@pytest.fixture
def voices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("flite", "festival"):
        monkeypatch.setattr(speech, name, utterance)
    monkeypatch.setattr(speech, "Espeak", StandIn)
    monkeypatch.setattr(speech, "check_synthesisers", lambda _: None)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_in_parts_is_the_run_in_one(voices: None, tmp_path: Path) -> None:
    whole = SpeechOptions(clips=4, test_clips=3, joined_clips=16, sung_clips=2)
    assert speech.pack_speech(whole, tmp_path / "whole") == 4 + 3 + 16 + 1 + 2
    speech.pack_speech(SpeechOptions(clips=2, test_clips=3), tmp_path / "parts")
    speech.pack_speech(whole, tmp_path / "parts")
    first, second = bytes_of(tmp_path / "whole"), bytes_of(tmp_path / "parts")
    assert first.keys() == second.keys() and len({*first.values()}) == len(first)
    for split, count in (("train", 4), ("test", 3), ("joined", 16), ("joinedtest", 1), ("sung", 2)):
        one, other = (load_synthesised(tmp_path / name, split) for name in ("whole", "parts"))
        assert len(one) == count and [clip.voice for clip in one] == [clip.voice for clip in other]
        assert all((a.samples == b.samples).all() and a.phones == b.phones for a, b in zip(one, other, strict=True))
    trained, tested = ({clip.voice for clip in load_synthesised(tmp_path / "whole", split)} for split in ("train", "test"))
    assert not trained & tested
    clip = load_synthesised(tmp_path / "whole", "train")[0]
    assert abs(int(np.abs(clip.samples).max()) - 0.7 * 32767) < 40 and abs(len(clip.samples) / 16_000 - clip.phones[-1].end_s) < 0.01


def test_recordings_get_phonemes_and_bad_matches_are_left_out(voices: None, tmp_path: Path) -> None:
    said = utterance("hello there")
    soundfile.write(tmp_path / "a.wav", said.waveform.samples, 16_000)
    with (tmp_path / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "transcript"), ("a.wav", "hello there"), ("a.wav", "what was never said")])
    options = SpeechOptions(clips=0, test_clips=0, recordings=tmp_path / "index.csv", worst_cost=1.0)
    assert speech.pack_speech(options, tmp_path / "speech") == 1
    (clip,) = load_synthesised(tmp_path / "speech", "recording")
    assert clip.voice == "recording:a.wav" and [phone.symbol for phone in clip.phones] == [phone.symbol for phone in said.phones]
    (tmp_path / "other.csv").write_text("name,words\n")
    with pytest.raises(MediaError, match="no column 'file'"):
        speech.pack_speech(SpeechOptions(clips=0, test_clips=0, recordings=tmp_path / "other.csv"), tmp_path / "speech")


def test_words_with_times_hold_their_phonemes() -> None:
    lexicon = {"bin": (Phone("b", 0.1, 0.2), Phone("ih", 0.2, 0.3), Phone("n", 0.3, 0.5))}
    sound = Waveform(np.zeros(16_000, np.float32), 16_000)
    phones = speech.phones_in_words([(0.0, 0.3, "sil"), (0.3, 0.7, "bin")], sound, lexicon, None)
    assert [phone.symbol for phone in phones] == ["pau", "b", "ih", "n", "pau"]
    assert [round(phone.end_s, 3) for phone in phones] == [0.3, 0.4, 0.5, 0.7, 1.0]


def test_filmed_speakers_come_with_their_lips(voices: None, shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "speech_av"
    rows = list(csv.reader((source / "index.csv").open()))
    folder = tmp_path / "data" / "speech_av"
    folder.mkdir(parents=True)
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows[:2])
    (folder / "words.csv").write_bytes((source / "words.csv").read_bytes())
    for name in ("audio", "landmarks_0.npz"):
        (folder / name).symlink_to(source / name)
    options = SpeechOptions(clips=0, test_clips=0, tracked=folder, head=shared / "data" / "ict_facekit.npz")
    assert speech.pack_speech(options, tmp_path / "speech") == 1
    (clip,) = load_packed_tracks(tmp_path / "speech", "tracked" if rows[1][1] == "train" else "trackedtest")
    assert clip.name == rows[1][0] and clip.targets.expression.shape == (75, 44) and len(clip.phones) > 10
    with pytest.raises(MediaError, match="--head"):
        speech.pack_speech(SpeechOptions(clips=0, test_clips=0, tracked=folder), tmp_path / "speech")


def test_a_missing_synthesiser_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(synthesisers, "_espeak_library", lambda: None)
    for make in (lambda: synthesisers.flite("a"), lambda: synthesisers.festival("a"), synthesisers.Espeak):
        with pytest.raises(MissingPart, match="not installed; install it"):
            make()
    assert main(["data", "speech", "--clips", "1", "-o", str(tmp_path / "speech")]) == 2
    assert "flite is not installed" in capsys.readouterr().err and not (tmp_path / "speech").exists()


def test_a_synthesiser_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, body in (("flite", "exit 3"), ("festival", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(MissingPart, match="flite could not speak"):
        synthesisers.flite("a")
    with pytest.raises(MissingPart, match="festival has not the voice"):
        synthesisers.festival("a")


def test_what_cannot_be_done_is_said(voices: None, tmp_path: Path) -> None:
    with pytest.raises(EmptyMedia, match="--clips"):
        speech.pack_speech(NOTHING, tmp_path / "speech")
    with pytest.raises(OptionError, match="--teachers"):
        speech.pack_speech(SpeechOptions(clips=0, test_clips=0, untranscribed=tmp_path), tmp_path / "speech")
    (tmp_path / "speech" / "train_00000.npz").write_bytes(b"PK cut")
    with pytest.raises(MediaError, match="make it again"):
        load_synthesised(tmp_path / "speech", "train")
