"""The learned manner: codes, styles, predictors, a run that resumes exactly, and the files that speak without torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait.erlnet.model import PartStream, load_erlnet
from triportrait.erlnet.parts import EXPRESSION, PARTS, POSE, ROW, motion_of_rows, motion_rows
from triportrait.errors import EmptyMedia, MediaError, OptionError
from triportrait.motion.lips import gap_weights
from triportrait.training.erlnet.clips import MannerClip, read_manner_clips, write_manner_clips
from triportrait.training.erlnet.export import export_manner
from triportrait.training.erlnet.manner import MannerRecipe, MannerStage, Windows, agreement_loss, generated, load_manner, tiny
from triportrait.training.erlnet.networks import MannerSizes, MotionCodes, Quantiser, StyleEncoder, build
from triportrait.training.loop import train_stage
from triportrait.types import ARKIT_EXPRESSIONS

HEARD = 12
JAW, BROW = ARKIT_EXPRESSIONS.index("jawOpen"), ARKIT_EXPRESSIONS.index("browInnerUp")


def person(number: int, seed: int, frames: int = 160) -> MannerClip:
    """Lips that follow what is heard, and a head and brows that go as far as this person's do."""
    random = np.random.default_rng([seed, number])
    voice = np.convolve(random.normal(size=frames + 8), np.ones(5) / 5, mode="same")[4:-4]
    heard = random.normal(0.0, 0.3, (frames, HEARD)).astype(np.float32)
    heard[:, 0] = voice
    motion = np.zeros((frames, ROW), np.float32)
    motion[:, JAW] = np.clip(0.3 + 0.5 * voice, 0.0, 1.0)
    liveliness = 0.05 + 0.3 * (number % 4)
    slow = np.convolve(random.normal(size=frames + 24), np.ones(25) / 5, mode="valid")
    motion[:, BROW] = np.clip(0.3 + liveliness * slow, 0.0, 1.0)
    motion[:, POSE.columns] = liveliness * slow[:, None] * np.array([0.2, 0.3, 0.1, 0.1, 0.1, 0.1])
    return MannerClip(motion, heard, f"person_{number}", "filmed", False)


@pytest.fixture(scope="module")
def clips() -> list[MannerClip]:
    learned = [person(number, seed) for number in range(4) for seed in range(4)]
    return learned + [replace(person(number, 9), held_out=True) for number in range(4)]


def recipe(**changes: object) -> MannerRecipe:
    return replace(tiny(), network=replace(tiny().network, heard=HEARD), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(clips: list[MannerClip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run, exported; what it learned is judged below."""
    folder = tmp_path_factory.mktemp("manner")
    stage = MannerStage(recipe(steps=360, vqvae_steps=140, style_steps=60, save_every=360, validate_every=180), clips)
    train_stage(stage, folder, tensorboard=False)
    export_manner(folder / "model.safetensors")
    return folder


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# -- networks ---------------------------------------------------------------------------------------------------------------


def test_shapes_of_all_networks() -> None:
    sizes = recipe().network
    networks = build(sizes).eval()
    motion = torch.randn(3, 48, ROW)
    assert networks["style"](motion).shape == (3, sizes.style)
    assert torch.allclose(networks["style"](motion).norm(dim=1), torch.ones(3), atol=1e-5)
    for part in PARTS:
        code = sizes.of(part)
        rows, quantised = networks[f"{part.name}_codes"](motion[..., part.columns])
        assert rows.shape == (3, 48, part.size)
        assert quantised.codes.shape == (3, 48 // code.frames, code.groups)
        assert int(quantised.codes.max()) < code.codes
        predictor = networks[f"{part.name}_predictor"]
        logits, _ = predictor(torch.randn(3, 48, HEARD), quantised.codes, quantised.codes, torch.randn(3, sizes.style))
        assert logits.shape == (*quantised.codes.shape, code.codes)


def test_the_sizes_named_paper_are_those_of_its_public_relatives() -> None:
    from triportrait.training.erlnet.manner import paper

    networks = build(paper().network)
    counts = {name: sum(p.numel() for p in network.parameters()) / 1e6 for name, network in networks.items()}
    assert 5.0 < counts["expression_codes"] < 8.0
    assert paper().network.style == 128


def test_quantised_vectors_pass_the_gradient_straight_through() -> None:
    quantiser = Quantiser(2, 8, 4).eval()
    vectors = torch.randn(2, 5, 8, requires_grad=True)
    weights = torch.randn(2, 5, 8)
    (quantiser(vectors).vectors * weights).sum().backward()
    assert vectors.grad is not None and torch.allclose(vectors.grad, weights)
    taken = quantiser.vectors(quantiser(vectors).codes)
    assert torch.allclose(quantiser(vectors).vectors, taken, atol=1e-6)


def test_codes_are_the_nearest_entries() -> None:
    quantiser = Quantiser(2, 8, 4)
    vectors = torch.nn.functional.normalize(torch.randn(3, 5, 2, 4), dim=-1)
    apart = (vectors[..., None, :] - quantiser.entries).norm(dim=-1)
    assert torch.equal(quantiser.nearest(vectors), apart.argmin(-1))


def test_entries_that_serve_nobody_come_into_use() -> None:
    """All entries but one look the other way: without help one would serve all tokens."""
    torch.manual_seed(0)
    quantiser = Quantiser(1, 16, 4)
    tokens = torch.nn.functional.normalize(torch.randn(8, 64, 4) + torch.tensor([3.0, 0, 0, 0]), dim=-1)
    quantiser.weight.data[:] = torch.tensor([-1.0, 0.0, 0.0, 0.0])
    quantiser.weight.data[0, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert len(quantiser.eval()(tokens).codes.unique()) == 1
    quantiser.train()
    for _ in range(200):
        quantiser(tokens)
    assert len(quantiser.eval()(tokens).codes.unique()) > 8


def test_the_predictor_sees_no_later_codes_and_hears_no_later_than_it_may() -> None:
    sizes = recipe().network
    torch.manual_seed(0)
    predictor = build(sizes)["expression_predictor"].eval()
    code = sizes.of(EXPRESSION)
    heard, style = torch.randn(1, 48, HEARD), torch.randn(1, sizes.style)
    before = torch.randint(code.codes, (1, 24, code.groups))
    logits = predictor(heard, before, before, style)[0]
    other = before.clone()
    other[:, 12:] = (other[:, 12:] + 1) % code.codes
    assert torch.allclose(predictor(heard, other, before, style)[0][:, :12], logits[:, :12], atol=1e-5)
    later = heard.clone()
    later[:, (12 + code.ahead) * code.frames :] += 1.0
    assert torch.allclose(predictor(later, before, before, style)[0][:, :12], logits[:, :12], atol=1e-5)
    assert not torch.allclose(predictor(heard, before, before, -style)[0], logits, atol=1e-3)


def test_agreement_is_least_where_pairs_agree() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(6, 8), dim=1)
    assert agreement_loss(vectors, vectors, 0.1) < agreement_loss(vectors, vectors.roll(1, 0), 0.1)
    twin = torch.cat([vectors[:1], vectors[:1]])
    same = torch.ones(2, 2, dtype=torch.bool)
    assert agreement_loss(twin, twin, 0.1, same) < 1e-6


# -- data -------------------------------------------------------------------------------------------------------------------


def test_packed_clips_come_back(clips: list[MannerClip], tmp_path: Path) -> None:
    silent = replace(clips[0], heard=None, source="captured")
    write_manner_clips(tmp_path / "m.npz", [*clips[1:3], silent, clips[-1]])
    back = read_manner_clips([tmp_path / "m.npz"])
    assert [clip.person for clip in back] == ["person_0", "person_0", "person_0", "person_3"]
    assert [clip.held_out for clip in back] == [False, False, False, True]
    assert back[2].heard is None and back[2].source == "captured"
    assert np.array_equal(back[0].motion, clips[1].motion)
    assert back[3].heard is not None and clips[-1].heard is not None
    assert np.allclose(back[3].heard, clips[-1].heard, atol=2e-3)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", motion=np.zeros((3, ROW)))
    with pytest.raises(MediaError, match="no clips of manners"):
        read_manner_clips([tmp_path / "other.npz"])


def test_motion_goes_into_rows_and_back() -> None:
    rows = person(1, 0).motion
    motion = motion_of_rows(rows[:, EXPRESSION.columns], rows[:, POSE.columns])
    again = motion_rows(motion)
    assert np.allclose(again[:, : len(ARKIT_EXPRESSIONS)], rows[:, : len(ARKIT_EXPRESSIONS)])
    assert np.allclose(again[:, POSE.columns], rows[:, POSE.columns] - np.median(rows[:, POSE.columns], axis=0), atol=1e-6)


def test_another_window_is_of_the_same_person_and_lies_elsewhere(clips: list[MannerClip]) -> None:
    alone = Windows([person(0, 0, 100), person(1, 0, 100)], 48)
    random = np.random.default_rng(0)
    for _ in range(20):
        taken = slice(0, 48)
        other = alone.other(0, taken, random)
        starts = [s for s in range(53) if np.array_equal(alone.clips[0].motion[s : s + 48], other)]
        assert starts and starts[0] >= 48
    many = Windows(clips, 48)
    index, rows = many.drawn(random, "telling")
    own = np.concatenate([clip.motion for clip in clips if clip.person == many.clips[index].person])
    assert {tuple(row) for row in many.other(index, rows, random)} <= {tuple(row) for row in own}


def test_data_that_teaches_nothing_is_refused(clips: list[MannerClip]) -> None:
    with pytest.raises(EmptyMedia, match="no clip has 48 rows"):
        MannerStage(recipe(), [person(0, 0, 40)])
    with pytest.raises(OptionError, match="no clip has sound"):
        MannerStage(recipe(), [replace(clip, heard=None) for clip in clips])
    with pytest.raises(OptionError, match="no two people"):
        MannerStage(recipe(), [clip for clip in clips if clip.person == "person_0"])
    with pytest.raises(OptionError, match="leave none for the predictor"):
        MannerStage(recipe(steps=10), clips)
    with pytest.raises(MediaError, match="pack them again"):
        MannerStage(tiny(), clips)


# -- the run ----------------------------------------------------------------------------------------------------------------


def test_it_learns(trained: Path) -> None:
    """Losses of each part fall, and the held-out score beats that of the mean."""
    log = log_of(trained)
    for part in ("vqvae", "style", "predictor"):
        losses = [line["loss"] for line in log if any(name.startswith(part) for name in line)]
        assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10]), part
    assert log[-1]["expression_kept_val"] > 0.3
    assert log[-1]["pose_kept_val"] > 0.3
    assert log[-1]["opening_told_val"] > 0.2


def test_many_codes_are_used(trained: Path, clips: list[MannerClip]) -> None:
    networks, sizes = load_manner(trained / "model.safetensors")
    motion = torch.from_numpy(np.stack([clip.motion[:144] for clip in clips]))
    for part in PARTS:
        network = networks[f"{part.name}_codes"]
        assert isinstance(network, MotionCodes)
        codes = network.codes(motion[..., part.columns])
        for group in range(sizes.of(part).groups):
            assert len(codes[..., group].unique()) >= sizes.of(part).codes // 2


def test_halves_of_held_out_clips_find_each_other_more_often_than_by_chance(trained: Path) -> None:
    networks = load_manner(trained / "model.safetensors")[0]
    encoder = networks["style"]
    assert isinstance(encoder, StyleEncoder)
    unseen = [person(number, seed, 192) for number in range(4) for seed in range(20, 26)]
    with torch.inference_mode():
        first, second = (encoder(torch.from_numpy(np.stack([clip.motion[s : s + 96] for clip in unseen]))) for s in (0, 96))
    nearest = (first @ second.T).argmax(1).numpy()
    found = np.mean([unseen[i].person == unseen[j].person for i, j in enumerate(nearest)])
    assert found > 0.5  # of four manners: by chance a quarter


def test_resume_is_exact(clips: list[MannerClip], tmp_path: Path) -> None:
    """Each part of the run is interrupted once."""
    settings = recipe(steps=6, vqvae_steps=2, style_steps=2, save_every=6, validate_every=6)
    whole = train_stage(MannerStage(settings, clips), tmp_path / "whole", tensorboard=False)
    for _ in range(6):
        parts = train_stage(MannerStage(settings, clips), tmp_path / "parts", tensorboard=False, stop_after=0.0)
    assert parts.finished
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, parts.averaged.state_dict()[name]), name


# -- without torch ----------------------------------------------------------------------------------------------------------


def test_a_stream_in_any_blocks_gives_what_the_network_gives_for_the_whole(trained: Path) -> None:
    model, (networks, _) = load_erlnet(trained), load_manner(trained / "model.safetensors")
    clip = person(2, 11, 160)
    style = model.style(motion_of_rows(clip.motion[:, EXPRESSION.columns], clip.motion[:, POSE.columns]))
    assert np.isclose(np.linalg.norm(style), 1.0, atol=1e-3)
    assert clip.heard is not None
    for part in PARTS:
        codes, predictor = networks[f"{part.name}_codes"], networks[f"{part.name}_predictor"]
        whole = generated(codes, predictor, torch.from_numpy(clip.heard[None]), torch.from_numpy(style[None]))[0].numpy()  # type: ignore[arg-type]
        for block in (1, 7, 160):
            stream = PartStream(model.parts[part.name], style, 0.0, np.random.default_rng(0))
            made = [stream.push(clip.heard[i : i + block]) for i in range(0, 160, block)]
            assert np.allclose(np.concatenate([*made, stream.finish()]), whole, atol=2e-4)


def test_a_stream_ends_where_the_sound_ends_and_the_seed_decides(trained: Path) -> None:
    model = load_erlnet(trained)
    heard, style = np.random.default_rng(0).normal(size=(50, HEARD)).astype(np.float32), np.zeros(model.style_size, np.float32)

    def made(seed: int, temperature: float) -> np.ndarray:
        stream = PartStream(model.parts["pose"], style, temperature, np.random.default_rng(seed))
        return np.concatenate([stream.push(heard), stream.finish()])

    assert made(0, 1.0).shape == (50, POSE.size)
    assert np.array_equal(made(3, 1.0), made(3, 1.0))
    assert not np.array_equal(made(3, 1.0), made(4, 1.0))
    assert np.array_equal(made(3, 0.0), made(4, 0.0))


def test_the_style_changes_what_is_made_of_a_voice(trained: Path) -> None:
    """So few steps teach whose manner it is, and not yet to take it on: the made curves are others, the same style's are the same."""
    model, made = load_erlnet(trained), []
    for number in (0, 3, 3):
        clip = person(number, 12, 200)
        style = model.style(motion_of_rows(clip.motion[:, EXPRESSION.columns], clip.motion[:, POSE.columns]))
        voice = person(1, 13, 400).heard
        assert voice is not None
        stream = PartStream(model.parts["expression"], style, 1.0, np.random.default_rng(0))
        made.append(np.concatenate([stream.push(voice), stream.finish()]))
    np.testing.assert_array_equal(made[1], made[2])
    assert np.abs(made[1] - made[0]).max() > 1e-3


def test_lips_follow_what_is_heard(trained: Path) -> None:
    model, clip = load_erlnet(trained), person(1, 14, 200)
    assert clip.heard is not None
    stream = PartStream(model.parts["expression"], np.zeros(model.style_size, np.float32), 0.0, np.random.default_rng(0))
    made = np.concatenate([stream.push(clip.heard), stream.finish()])
    gaps = gap_weights(ARKIT_EXPRESSIONS)
    told = np.corrcoef(made[:, : len(gaps)] @ gaps, clip.motion[:, : len(gaps)] @ gaps)[0, 1]
    assert told > 0.5


def test_sizes_survive_their_config() -> None:
    from triportrait.training.erlnet.networks import config_of

    sizes = tiny().network
    assert MannerSizes.from_config(json.loads(json.dumps(config_of(sizes)))) == sizes
