"""Training data keeps sound and lips together; the loop learns, stops and continues."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait.motion.audio_network import AudioToMotion, AudioToMotionConfig
from triportrait.motion.lips import lip_opening
from triportrait.motion.speech_features import EnvelopeLogMel, LogMel
from triportrait.training.loop import train_stage
from triportrait.training.voice.alignment import aligned_phones, refined_phones
from triportrait.training.voice.articulation import VISEME_SYMBOL, VISEMES, viseme_rows, visemes_of
from triportrait.training.voice.augment import WarpedLogMel, augment, telephone, transform_codec
from triportrait.training.voice.corpora import CURVES, Spoken, Tracked, aligned, pseudo_labelled
from triportrait.training.voice.examples import example
from triportrait.training.voice.lip_tracks import LipTrack, curves_from_landmarks, load_speech_av
from triportrait.training.voice.losses import concordance_loss, losses
from triportrait.training.voice.stage import VoiceRecipe, VoiceStage
from triportrait.training.voice.sync_loss import sync_loss
from triportrait.training.voice.synthesisers import Phone, Utterance, festival_symbol
from triportrait.types import ARKIT_EXPRESSIONS, Waveform


def spoken(seed: int = 0, stretch: float = 1.0) -> Spoken:
    """Vowels are tones with overtones, bilabials silent gaps, /s/ is noise."""
    random = np.random.default_rng(seed)
    phones, sound, at = [], [], 0.0
    for symbol in ("pau", *random.choice(["aa", "iy", "p", "s", "uw", "m"], 18), "pau"):
        seconds = float(random.uniform(0.08, 0.16)) * stretch if symbol != "pau" else 0.4
        count = int(seconds * 16000)
        time_s = np.arange(count) / 16000
        tone = {"aa": (700, 1100), "iy": (280, 2300), "uw": (300, 800)}.get(symbol)
        if tone:
            wave = sum(np.sin(2 * np.pi * f * time_s) for f in (120, 240, *tone)) * 0.15
        else:
            wave = random.standard_normal(count) * (0.1 if symbol == "s" else 0.001)
        sound.append(wave)
        phones.append(Phone(str(symbol), at, at + count / 16000))
        at += count / 16000
    return Spoken((np.clip(np.concatenate(sound), -1, 1) * 32767).astype(np.int16), tuple(phones), "test")


def train(clips: list[Spoken], folder: Path, recipe: VoiceRecipe, start: AudioToMotion | None = None) -> AudioToMotion:
    """The network with averaged weights."""
    return train_stage(VoiceStage(clips, [], recipe, start=start), folder, tensorboard=False).averaged["audio_to_motion"]


def test_examples_have_the_shapes_and_pauses_are_shut() -> None:
    for seed in range(6):
        rows = example(spoken(seed), 96, np.random.default_rng(seed))
        features, curves, opening, contact, articulated, trust, sure, visemes = rows
        assert features.shape == (384, 82) and curves.shape == (96, len(CURVES)) and trust.shape == (len(CURVES),)
        assert np.isfinite(features).all() and contact.min() >= 0 and contact.max() <= 1
        assert opening.shape == contact.shape == articulated.shape == sure.shape == (96,)
        assert sure.min() == 1.0
        assert opening[contact > 0.99].max(initial=0) < 1e-4


def test_targets_follow_the_sound_through_speed_and_placing() -> None:
    """Energy rises where the lips open, wherever the clip lands in its window."""
    lags = []
    for seed in range(12):
        features, _, opening, *_ = example(spoken(seed), 96, np.random.default_rng(seed + 50))
        if opening.max() < 0.01:
            continue
        energy = features[:, 80].reshape(96, 4).mean(axis=1)
        scores = [np.corrcoef(np.roll(opening, lag)[6:-6], energy[6:-6])[0, 1] for lag in range(-5, 6)]
        lags.append(int(np.argmax(scores)) - 5)
    assert len(lags) >= 9 and abs(np.median(lags)) <= 1


def test_augmentation_keeps_time_and_range() -> None:
    samples = np.zeros(32000, np.float32)
    samples[16000:16200] = 0.5
    for seed in range(20):
        result = augment(samples, np.random.default_rng(seed))
        assert result.shape == samples.shape and np.isfinite(result).all() and np.abs(result).max() <= 1
    peaks = [int(np.argmax(np.abs(augment(samples, np.random.default_rng(seed))))) for seed in range(20)]
    assert abs(np.median(peaks) - 16100) < 200


def test_warped_features_move_a_tone() -> None:
    tone = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.float32)

    def peak(extractor: LogMel) -> int:
        return int(np.argmax(extractor.push(tone)[50, :80]))

    assert peak(WarpedLogMel(0.85)) < peak(LogMel()) < peak(WarpedLogMel(1.2))
    assert peak(WarpedLogMel(1.0)) == peak(LogMel())


def test_boundaries_move_to_where_they_are_heard() -> None:
    true = spoken(4).phones
    total_s = true[-1].end_s
    rows = round(total_s * 100)
    scores = np.full((rows, len(VISEMES)), -4.0, np.float32)
    scores[np.arange(rows), viseme_rows(true, (np.arange(rows) + 0.5) / 100)] = 0.0
    random = np.random.default_rng(0)
    edges = [0.0, *(p.end_s + float(random.uniform(-0.04, 0.04)) for p in true[:-1]), total_s]
    rough = tuple(Phone(p.symbol, a, b) for p, a, b in zip(true, edges[:-1], edges[1:], strict=True))
    found = refined_phones(rough, scores)
    assert [visemes_of(p.symbol) for p in found] == [visemes_of(p.symbol) for p in true]
    wrong = [abs(a.start_s - b.start_s) for a, b in zip(found, true, strict=True)]
    # Boundaries between equal sounds cannot be heard; they stay within their neighbours.
    heard = [error for error, a, b in zip(wrong[1:], true, true[1:], strict=False) if a.symbol != b.symbol]
    assert np.median(heard) <= 0.011 and max(heard) < 0.1
    assert refined_phones(rough[:3], scores[:5]) == rough[:3]


def test_every_viseme_has_a_symbol_of_its_own() -> None:
    for name in VISEMES:
        assert visemes_of(VISEME_SYMBOL[name]) == (name,)


@pytest.mark.parametrize(
    "voice, symbol, visemes",
    [
        ("czech_ph", "r~", ("sh",)),
        ("lp_diphone", "a1", ("aa",)),
        ("lp_diphone", "tS", ("t", "sh")),
        ("czech_ph", "#", ("sil",)),
        ("suo_fi_lj_diphone", "y:", ("yy",)),
        ("msu_ru_nsh_clunits", "bb", ("p",)),
        ("kal_diphone", "ow", ("ow", "uw")),
    ],
)
def test_festival_symbols(voice: str, symbol: str, visemes: tuple[str, ...]) -> None:
    assert visemes_of(festival_symbol(symbol, voice)) == visemes


def test_concordance_counts_amplitude() -> None:
    target = torch.rand(3, 60) * 0.1
    flat = target.mean(1, keepdim=True) + 0.4 * (target - target.mean(1, keepdim=True))
    assert float(concordance_loss(target, target)) == pytest.approx(0.0, abs=1e-5)
    # By hand: 1 - 2 * 0.4 / (1 + 0.16) = 0.31 for 0.4 of the amplitude.
    assert float(concordance_loss(flat, target)) == pytest.approx(0.31, abs=0.01)
    assert float(concordance_loss(torch.zeros(1, 60), torch.zeros(1, 60))) == pytest.approx(0.0, abs=1e-5)


def test_alignment_finds_a_slower_speaker() -> None:
    fast, slow = spoken(3), spoken(3, stretch=1.4)
    waves = [Waveform(clip.samples.astype(np.float32) / 32767, 16000) for clip in (fast, slow)]
    found, _ = aligned_phones(Utterance(waves[0], fast.phones), waves[1])
    assert [phone.symbol for phone in found] == [phone.symbol for phone in slow.phones]
    errors = [abs(a.start_s - b.start_s) for a, b in zip(found, slow.phones, strict=True)]
    assert np.median(errors) < 0.03 and max(errors) < 0.15


def test_training_learns_and_continues(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    clips = [spoken(seed) for seed in range(4)]
    config = AudioToMotionConfig(channels=24, front_channels=16, dilations=(1, 2), curves=CURVES)
    settings = VoiceRecipe(network=config, steps=40, batch=6, frames=64, fresh=3, save_every=20, rate=4e-3)
    half = VoiceRecipe(network=config, steps=20, batch=6, frames=64, fresh=3, save_every=20, rate=4e-3)
    train(clips, tmp_path, half)
    model = train(clips, tmp_path, settings)
    assert int(torch.load(tmp_path / "state.pt", weights_only=True)["step"]) == 40
    assert (tmp_path / "model.safetensors").exists()
    rows = [example(clip, 64, np.random.default_rng(1)) for clip in clips]
    features, *targets = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
    torch.manual_seed(settings.seed)
    untrained = AudioToMotion(config).eval()
    with torch.inference_mode():
        before, after = (float(losses(m(features), tuple(targets), torch.ones(len(CURVES)))) for m in (untrained, model))
    assert after < 0.7 * before
    # A new run that begins with these weights and hardly learns keeps them; it gains a head that names sounds.
    still = VoiceRecipe(steps=1, batch=2, frames=64, rate=1e-9)
    begun = train(clips, tmp_path / "further", still, model)
    assert begun.config.visemes == len(VISEMES) and config.visemes == 0
    assert torch.allclose(begun.head.weight, model.head.weight, atol=1e-6)


def test_tracked_lips_become_curves(shared: Path) -> None:
    name, (_, track) = next(iter(load_speech_av(shared / "data" / "speech_av").items()))
    targets = curves_from_landmarks(track, shared / "data" / "ict_facekit.npz")
    assert name and len(targets.opening) == len(track)
    given = lip_opening(targets.expression, ARKIT_EXPRESSIONS)
    assert np.abs(given - targets.opening).mean() < 0.002
    assert given[targets.contact > 0.99].max() < 1e-3
    assert targets.expression.min() >= 0 and targets.expression.max() <= 1


def test_clips_out_of_step_are_moved() -> None:
    class Oracle(torch.nn.Module):
        config = AudioToMotionConfig()

        def forward(self, features: torch.Tensor) -> tuple:
            return None, truth[None], None

    random = np.random.default_rng(0)
    truth = torch.from_numpy(np.abs(np.cumsum(random.normal(size=75)) % 3 - 1.5).astype(np.float32))
    shifted = np.roll(truth.numpy(), -2)
    targets = LipTrack(np.zeros((75, 44), np.float32), shifted, np.zeros(75, np.float32))
    moved = aligned([Tracked(np.zeros(48000, np.int16), targets, "a")], Oracle())[0].targets.opening
    np.testing.assert_allclose(moved[3:], truth.numpy()[3:], atol=1e-6)
    assert pytest.approx(np.corrcoef(moved[3:], truth.numpy()[3:])[0, 1]) == 1.0


def test_a_resumed_run_makes_the_same_examples_again(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    clips = [spoken(seed) for seed in range(2)]
    config = AudioToMotionConfig(channels=8, front_channels=8, dilations=(1,), curves=CURVES)
    settings = VoiceRecipe(network=config, steps=5, batch=3, frames=64, fresh=1, memory=4, log_every=1)
    whole = train(clips, tmp_path / "whole", settings)
    train_stage(VoiceStage(clips, [], settings), tmp_path / "parts", tensorboard=False, stop_after=0.0)
    parts = train(clips, tmp_path / "parts", settings)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_synchrony_loss_of_the_recipe_brings_lips_and_sound_together(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    clips = [spoken(seed) for seed in range(4)]
    config = AudioToMotionConfig(
        features=EnvelopeLogMel.size, channels=24, front_channels=16, dilations=(1,), curves=CURVES, extractor=EnvelopeLogMel.name
    )
    rows = [example(clip, 64, np.random.default_rng(1), EnvelopeLogMel.name) for clip in clips]
    features = torch.from_numpy(np.stack([row[0] for row in rows]))
    found = {}
    for weight in (0.0, 1.0):
        settings = VoiceRecipe(network=config, steps=40, batch=6, frames=64, fresh=2, rate=4e-3, sync_loss=weight)
        model = train(clips, tmp_path / str(weight), settings)
        with torch.inference_mode():
            found[weight] = float(sync_loss(features, model(features)[0], CURVES))
    assert found[1.0] < found[0.0] - 0.2, found


def test_pseudo_labels_are_sure_where_networks_agree() -> None:
    class Voice(torch.nn.Module):
        config = AudioToMotionConfig(curves=CURVES)

        def __init__(self, later: float) -> None:
            super().__init__()
            self.later = later

        def forward(self, features: torch.Tensor) -> tuple:
            count = features.shape[1] // 4
            curves = torch.zeros(1, count, len(CURVES))
            curves[..., CURVES.index("jawOpen")] = 0.3
            opening = torch.full((1, count), 0.06)
            opening[:, count // 2 :] += self.later
            return curves, opening, torch.full((1, count), -4.0)

    sound = np.zeros(32000, np.float32)
    clip = pseudo_labelled(sound, "a", [Voice(0.0), Voice(0.05)])
    assert clip is not None and clip.complete
    assert clip.targets.sure[:25].min() > 0.99 and clip.targets.sure[25:].max() < 0.01
    assert pseudo_labelled(sound, "a", [Voice(0.0), Voice(0.05)], least=0.6) is None
    features, curves, opening, contact, articulated, trust, sure, visemes = example(clip, 96, np.random.default_rng(2))
    assert trust.min() == 1.0 and (visemes == -1).any() and 0.1 < sure.mean() < 0.9
    rows = [torch.from_numpy(part)[None] for part in (curves, opening, contact, articulated, trust, sure, visemes)]
    outputs = (rows[0].clone(), rows[1].clone(), torch.zeros(1, 96))
    first = losses(outputs, tuple(rows), torch.ones(len(CURVES)))
    outputs[0][rows[5] == 0], outputs[1][rows[5] == 0], outputs[2][rows[5] == 0] = 0.9, 0.2, 3.0
    assert torch.isclose(losses(outputs, tuple(rows), torch.ones(len(CURVES))), first, atol=1e-5)


def test_codecs_lose_sound_and_keep_time() -> None:
    random = np.random.default_rng(0)
    clicks = np.zeros(32000)
    clicks[random.integers(500, 31500, 20)] = 1.0
    band = np.abs(np.fft.rfftfreq(32000, 1 / 16000) - 1500) < 1000
    sound = np.fft.irfft(np.fft.rfft(clicks) * band, 32000) + 1e-3 * random.standard_normal(32000)
    for coded in (telephone(sound), transform_codec(sound, random)):
        assert coded.shape == sound.shape
        lags = [float(sound[100:-100] @ np.roll(coded, lag)[100:-100]) for lag in range(-20, 21)]
        assert int(np.argmax(lags)) == 20
        assert 0.003 < np.mean((coded - sound) ** 2) / np.mean(sound**2) < 0.7
