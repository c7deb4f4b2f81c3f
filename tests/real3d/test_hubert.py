"""HuBERT features on a small network of the same kind with random weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait.errors import MissingPart, WeightsError
from triportrait.motion.speech_features import SpeechFeatures
from triportrait.nn import speech_networks
from triportrait.real3d.hubert import HubertFeatures, Level, load_hubert

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(0)
    config = transformers.HubertConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        feat_extract_norm="layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    # As published: the network for recognising speech, whose head nobody needs.
    transformers.HubertForCTC(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return np.random.default_rng(0).normal(0.1, 0.3, 16_000).astype(np.float32)


def test_rows_are_those_of_the_whole_normalised_sound(folder: Path, sound: np.ndarray) -> None:
    model = load_hubert(folder)
    features = HubertFeatures(model)
    assert isinstance(features, SpeechFeatures)
    assert len(features.push(sound[:5000])) == 0
    assert len(features.push(sound[5000:])) == 0
    rows = features.finish()
    assert rows.shape == ((len(sound) - 80) // 320, 32) and rows.dtype == np.float32
    normal = torch.from_numpy((sound - sound.mean()) / np.sqrt(sound.var() + 1e-7))
    with torch.no_grad():
        expected = model(normal[None]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(rows, expected, atol=1e-4)
    assert features.finish().shape == (0, 32)


def test_long_sound_is_cut_into_chunks_whose_rows_line_up(folder: Path, sound: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_networks, "CHUNK_ROWS", 20)
    model, level = load_hubert(folder), Level.of([sound[:7000], sound[7000:]])
    features = HubertFeatures(model, level)
    rows = np.concatenate([*(features.push(sound[i : i + 3000]) for i in range(0, len(sound), 3000)), features.finish()])
    assert len(rows) == (len(sound) - 80) // 320
    np.testing.assert_allclose(rows[20:40], HubertFeatures(model, level).push(sound[6400:12880]), atol=1e-5)


def test_level_of_blocks_is_the_level_of_the_whole(sound: np.ndarray) -> None:
    level = Level.of(np.array_split(sound, 7))
    assert level.mean == pytest.approx(sound.mean(), abs=1e-6)
    assert level.deviation == pytest.approx(sound.std(), rel=1e-5)


def test_what_is_missing_or_damaged_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingPart, match="fetch hubert"):
        load_hubert(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"\x08" + 40 * b"\0")
    with pytest.raises(WeightsError, match="fetch hubert"):
        load_hubert(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPart, match="pip install"):
        load_hubert(folder)


def test_the_published_names_of_weight_norm_are_understood(folder: Path, tmp_path: Path, sound: np.ndarray) -> None:
    """The published file is older than PyTorch's parametrisations."""
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in names.items():
        key = f"hubert.encoder.pos_conv_embed.conv.{new}"
        state[key.replace(new, old)] = state.pop(key)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    first, second = HubertFeatures(load_hubert(folder)), HubertFeatures(load_hubert(tmp_path))
    first.push(sound), second.push(sound)
    np.testing.assert_array_equal(first.finish(), second.finish())
