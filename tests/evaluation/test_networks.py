"""Metric networks: published sizes and names, strict loading, and the metrics computed with seeded random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from triportrait.errors import WeightsError
from triportrait.evaluation import learned
from triportrait.evaluation.metric_weights import WEIGHT_FILES, MetricNetworks, find_weights, load_strictly
from triportrait.evaluation.networks import InceptionFeatures, IResNet, Lpips, SyncNet


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def seeded(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Small random weights, so that no layer explodes."""
    torch.manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.is_floating_point() and "running_var" not in name:
            value.copy_(torch.randn_like(value) * 0.05)
    return network.eval().requires_grad_(False)


def test_sizes_are_the_published_ones():
    # torchvision: AlexNet and VGG16 without classifiers; Inception-v3 without auxiliary head (27,161,264 - 3,326,696) and
    # classifier (2,049,000); arcface_torch's 43.59 M and 65.16 M; syncnet_v2.model has 52.0 MiB.
    assert count(Lpips("alex").features) == 2_469_696
    assert count(Lpips("vgg").features) == 14_714_688
    with torch.device("meta"):
        assert count(InceptionFeatures()) == 21_785_568
        assert [count(IResNet(depth)) for depth in (18, 34, 50, 100)] == [24_025_600, 34_139_328, 43_590_848, 65_156_160]
        assert count(SyncNet()) == 13_631_616


def test_names_are_the_published_ones():
    with torch.device("meta"):
        keys = {kind.__name__: set(kind().state_dict()) for kind in (InceptionFeatures, IResNet, SyncNet)}
    keys["Lpips"] = set(Lpips("alex").state_dict())
    assert {
        "Conv2d_1a_3x3.conv.weight",
        "Mixed_5b.branch3x3dbl_3.bn.running_var",
        "Mixed_6e.branch7x7dbl_5.conv.weight",
        "Mixed_7a.branch7x7x3_4.bn.weight",
        "Mixed_7c.branch3x3dbl_3b.conv.weight",
    } <= keys["InceptionFeatures"]
    assert {
        "conv1.weight",
        "prelu.weight",
        "layer1.0.downsample.1.running_mean",
        "layer3.13.conv2.weight",
        "layer4.2.bn3.bias",
        "fc.weight",
        "features.running_var",
    } <= keys["IResNet"]
    assert {
        "netcnnaud.0.weight",
        "netcnnaud.18.weight",
        "netcnnaud.19.running_mean",
        "netfcaud.3.bias",
        "netfclip.1.weight",
        "netcnnlip.0.weight",
        "netcnnlip.18.weight",
    } <= keys["SyncNet"]
    assert {"features.0.weight", "features.3.bias", "features.10.weight", "lin4.model.1.weight"} <= keys["Lpips"]
    shapes = {"netcnnaud.18.weight": (512, 256, 5, 4), "netcnnlip.18.weight": (512, 256, 1, 6, 6)}
    with torch.device("meta"):
        state = SyncNet().state_dict()
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


def test_files_are_loaded_strictly_and_refused_in_one_sentence(tmp_path: Path):
    own = seeded(IResNet(18))
    state = {key: value.contiguous() for key, value in own.state_dict().items() if "num_batches" not in key}
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "arcface.safetensors")
    networks = MetricNetworks(tmp_path)
    loaded = networks.arcface
    assert torch.allclose(loaded.fc.weight, own.fc.weight, atol=1e-3) and loaded.fc.weight.dtype == torch.float32
    assert set(networks.missing) == {"alexnet", "vgg16", "inception", "syncnet"}
    assert networks.inception is None and "inception_fid" in networks.missing["inception"]

    for change, words in (
        ({"fc.weight": None}, "lacks 'fc.weight'"),
        ({"head.weight": torch.zeros(2)}, "unknown 'head.weight'"),
        ({"fc.bias": torch.zeros(7)}, r"shape \(7,\) instead of \(512,\)"),
    ):
        wrong = {key: value for key, value in {**state, **change}.items() if value is not None}
        with pytest.raises(WeightsError, match=words):
            load_strictly(IResNet(18), wrong, tmp_path / "arcface.pth")
    save_file({"layer1.0.bn1.weight": torch.zeros(3)}, tmp_path / "arcface.safetensors")
    with pytest.raises(WeightsError, match="no IResNet"):
        MetricNetworks(tmp_path).check()
    with pytest.raises(WeightsError, match="not a folder"):
        MetricNetworks(tmp_path / "none")
    assert "--metric-weights" in find_weights(None, "syncnet")[1]


def test_a_file_whose_name_carries_its_hash_must_match(tmp_path: Path):
    state = {f"features.{i}": torch.zeros(1) for i in range(2)}
    torch.save(state, tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(WeightsError, match="not the file its name says"):
        MetricNetworks(tmp_path).check()


def test_lpips_takes_torchvisions_backbone_and_torchmetrics_heads(tmp_path: Path):
    pytest.importorskip("torchmetrics")
    own = seeded(Lpips("alex"))
    state = {key: value for key, value in own.state_dict().items() if key.startswith("features.")}
    save_file({**state, "classifier.1.weight": torch.zeros(2, 2)}, tmp_path / "alexnet.safetensors")
    network = MetricNetworks(tmp_path).lpips_alex
    weights = network.lin0.model[1].weight
    assert weights.shape == (1, 64, 1, 1) and (weights >= 0).all() and weights.sum() > 0
    picture = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    assert learned.lpips(network, [picture], [picture]) == pytest.approx(0, abs=1e-6)
    little, much = (learned.lpips(network, [picture], [np.clip(picture + step, 0, 1)]) for step in (0.02, 0.3))
    assert 0 < little < much
    # What is not counted does not matter.
    other = picture.copy()
    other[:32] = 0.5
    lower = np.zeros((64, 64), bool)
    lower[32:] = True
    assert learned.lpips(network, [picture], [other], lower) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_is_the_formula():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(300, 6)) + 0.5
    sigma = [np.cov(rows.T) for rows in (x, y)]
    root = np.sqrt(np.linalg.eigvals(sigma[0] @ sigma[1]).astype(complex)).sum().real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(sigma[0]) + np.trace(sigma[1]) - 2 * root
    assert learned.frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert learned.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert np.isnan(learned.frechet_distance(x[:1], y))


def test_forward_on_random_weights():
    features = learned.inception_features(seeded(InceptionFeatures()), [np.full((80, 60, 3), 99, np.uint8)])
    assert features.shape == (1, 2048) and np.isfinite(features).all()
    landmarks = np.zeros((2, 478, 2))
    for indices, point in zip(((33, 133), (362, 263), (4,), (61,), (291,)), learned.ARCFACE_POINTS, strict=True):
        landmarks[:, list(indices)] = 2 * (point + 0.5) + 10
    picture = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    rows = learned.identity_embeddings(seeded(IResNet(18)), [picture, picture[::-1]], landmarks)
    assert rows.shape == (2, 512) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    # The template's own points at twice its size come out at once the size.
    marked = np.zeros((256, 256, 3), np.uint8)
    x, y = (2 * (learned.ARCFACE_POINTS[2] + 0.5) + 10 - 0.5).round().astype(int)
    marked[y - 2 : y + 3, x - 2 : x + 3] = 255
    face = learned.align_face(marked, landmarks[0])
    found = np.array(np.unravel_index(face[..., 0].argmax(), (112, 112)))[::-1]
    assert np.abs(found - learned.ARCFACE_POINTS[2]).max() < 1.5


def test_lip_sync_errors_find_the_shift_and_streams_equal_batches():
    rng = np.random.default_rng(0)
    sound = rng.normal(size=(60, 32))
    found = learned.lip_sync_errors(np.roll(sound, 3, axis=0)[3:50], sound[3:50])
    assert found["offset"] == 3 and found["lse_d"] < found["lse_d"] + found["lse_c"]
    assert np.isnan(learned.lip_sync_errors(sound[:0], sound)["lse_d"])

    network = seeded(SyncNet())
    pictures = rng.integers(0, 255, (23, 96, 96, 3), np.uint8)
    points = np.tile(rng.uniform(30, 66, (478, 2)), (23, 1, 1))
    stream = learned.LipStream(network)
    for picture, row in zip(pictures, points, strict=True):
        stream.push(picture, row)
    rows = stream.finish()
    assert rows.shape == (19, 1024)
    late = learned.LipStream(network)
    for picture, row in zip(pictures[10:15], points[10:15], strict=True):
        late.push(picture, row)
    assert np.allclose(late.finish()[0], rows[10], atol=1e-4)


def test_cepstra_are_those_of_the_definition():
    # By hand from the definition: silence gives log(eps) everywhere before the cosine transform.
    tiny = float(np.log(np.finfo(float).eps))
    silence = learned.cepstra(np.zeros(16_000))
    assert silence.shape == (99, 13)
    assert np.allclose(silence[:, 0], tiny) and np.allclose(silence[:, 1:], 0, atol=1e-9)
    # A louder sound by a factor raises log energy by twice its logarithm and changes nothing else.
    noise = np.random.default_rng(0).normal(size=16_000) * 0.02
    low, high = learned.cepstra(noise), learned.cepstra(noise * 8)
    assert np.allclose((high - low)[:, 0], 2 * np.log(8), atol=0.02)
    assert np.abs((high - low)[:, 1:]).mean() < 0.05
    assert learned.sound_rows(seeded(SyncNet()), noise, 25).shape == (20, 1024)


def test_every_file_says_where_it_comes_from():
    for wanted in WEIGHT_FILES.values():
        assert wanted.metric and len(wanted.names) >= 2 and len(wanted.source) > 20
