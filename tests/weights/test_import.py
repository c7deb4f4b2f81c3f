"""Published files become files of ours, strictly and bit for bit reproducibly; face models are checked and copied."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from bfm_samples import synthetic_bfm
from golden_folder import key_list
from triportrait.errors import OutputError, WeightsError
from triportrait.face.bfm import BfmHead
from triportrait.face.open_head import OpenHead
from triportrait.weights import importers
from triportrait.weights.bfm import INDEX_FILE, verify_bfm
from triportrait.weights.eg3d import super_resolution_names
from triportrait.weights.home import find_weights, weights_home
from triportrait.weights.importers import import_checkpoint, importable
from triportrait.weights.reading import load_safetensors, read_checkpoint, sha256_of
from triportrait.weights.store import Provenance, digest_of, load_weights, save_weights
from triportrait.weights.tables import LAYOUTS, check, key_table, recognise
from triportrait.weights.talk3d import talk3d_parts, trained_talk3d_state
from weights_samples import Canary, filled, in_process, network_pickle, persistent_network, published, published_talk3d  # noqa: F401

#: The greatest of Real3D-Portrait, and one of each other kind of file, are read by the limited process, whose start costs seconds.
BY_A_CHILD = ("real3d_head", "real3d_torso", "eg3d", "talk3d")
PROVENANCE = Provenance("a.ckpt", "00", "model", "1", "none")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


def test_key_tables_are_the_key_lists() -> None:
    """The tables in the package say what the spec's key lists say."""
    for name in ("real3d_head", "real3d_torso", "real3d_a2m"):
        listed = key_list(f"{name}.json")
        table = key_table(name)
        assert table.shapes == {key: tuple(entry["shape"]) for key, entry in listed["keys"].items()}
        assert sum(np.prod(shape, dtype=int) for key, shape in table.shapes.items() if key not in table.buffers) == listed["n_param_elems"]
        assert table.integers == {key for key, entry in listed["keys"].items() if entry["dtype"] == "int64"}
    listed = key_list("talk3d.json")
    shapes = {f"{network}.{key}": tuple(shape) for network, keys in listed.items() for key, shape in keys.items()}
    table = key_table("talk3d")
    assert {key: shape for key, shape in table.shapes.items() if key not in table.optional} == shapes | {"null_vector": (1, 1, 64)}
    listed = key_list("eg3d.json")
    for name, network in (("eg3d", "G"), ("eg3d_discriminator", "D")):
        assert key_table(name).shapes == {key: tuple(shape) for key, shape in listed[network].items()}
    # What a tuned checkpoint has besides is EG3D's super-resolution.
    assert {key: table.shapes[key] for key in table.optional} == {
        key: shape for key, shape in key_table("eg3d").shapes.items() if key.startswith("superresolution.")
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_recognised_and_checked_to_the_last_key(layout: str) -> None:
    table, path = key_table(layout), Path("x.ckpt")
    state = {
        key: torch.empty(shape, dtype=torch.int64 if key in table.integers else torch.float32, device="meta")
        for key, shape in table.shapes.items()
    }
    assert recognise(state, path) == table
    check(state, table, path)
    first, last = next(iter(state)), [key for key in state if key not in table.optional][-1]
    with pytest.raises(WeightsError, match=f"key '{last}' is missing"):
        check({key: tensor for key, tensor in state.items() if key != last}, table, path)
    with pytest.raises(WeightsError, match="foreign key 'nose.weight'"):
        check({"nose.weight": state[first], **state}, table, path)
    with pytest.raises(WeightsError, match=rf"'{last}' has the shape \[5\] instead of"):
        check(state | {last: torch.empty(5)}, table, path)
    with pytest.raises(WeightsError, match=f"'{first}' holds torch.int8"):
        check(state | {first: state[first].to(torch.int8)}, table, path)


def test_audio_to_motion_with_other_amplitudes_is_recognised() -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in key_table("real3d_a2m").shapes.items()}
    state["eye_amp_embed"], state["cond_proj.weight"] = torch.empty(128), torch.empty(128, 640)
    table = recognise(state, Path("x.ckpt"))
    assert table.shapes["cond_proj.weight"] == (128, 640) and table.config["use_eye_amp_embed"]
    with pytest.raises(WeightsError, match="cond_proj.weight"):
        check(state | {"cond_proj.weight": torch.empty(128, 512)}, table, Path("x.ckpt"))


def test_foreign_networks_are_not_recognised() -> None:
    with pytest.raises(WeightsError, match=r"known here \(its first key is 'conv1.weight'\)"):
        recognise({"conv1.weight": 0, "fc.bias": 0}, Path("resnet.pth"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_every_layout_is_imported(layout: str, tmp_path: Path, home: Path, request: pytest.FixtureRequest) -> None:
    """From the key list to a published file, to ours, and back out of it, with nothing lost or changed on the way."""
    if layout not in BY_A_CHILD:
        request.getfixturevalue("in_process")
    table, state = key_table(layout), filled(layout)
    if layout.startswith("eg3d"):
        source = network_pickle(tmp_path / "x.pkl", state, table.buffers, "D" if "discriminator" in layout else "G_ema")
    elif layout == "talk3d":
        source = published_talk3d(tmp_path / "x.pt", state)
    else:
        source = published(tmp_path / "x.ckpt", state)
    expected, parts = importers.CONVERTERS[layout](state)
    del state
    report = import_checkpoint(source)
    assert report.layout == layout and report.sha256 == sha256_of(source)
    assert report.target == find_weights(layout) == home / f"{layout}.safetensors"
    stored = load_weights(report.target, layout=layout, verify=True)
    assert stored.tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in stored.tensors.items())
    assert stored.config == json.loads(json.dumps({"published": dict(table.config), **parts}))
    assert stored.provenance.source_sha256 == report.sha256 and stored.provenance.licence
    trained = sum(np.prod(shape, dtype=int) for key, shape in table.shapes.items() if key not in table.buffers)
    assert report.published_numbers == trained


def untuned() -> dict[str, torch.Tensor]:
    """A Talk3D checkpoint of the main stage, without a super-resolution of its own."""
    return {key: tensor for key, tensor in filled("talk3d").items() if key not in key_table("talk3d").optional}


def test_talk3d_loses_no_bit() -> None:
    """What lies behind each other in our tensors is what was published."""
    state = untuned()
    ours = trained_talk3d_state(state)
    again = {}
    for name, keys in talk3d_parts().items():
        tensor = ours.pop(name)
        if name.endswith("position"):
            tensor = tensor.transpose(0, 1).flatten(1)
        rows = [len(state[key]) for key in keys] if len(keys) > 1 else [len(tensor)]
        again |= {key: part.reshape(state[key].shape) for key, part in zip(keys, tensor.split(rows), strict=True)}
    assert not ours
    left_out = ("resample_filter", "num_batches_tracked")
    assert again.keys() == {key for key in state if not key.endswith(left_out)}
    assert all(torch.equal(tensor, state[key]) for key, tensor in again.items())


@pytest.mark.parametrize(("change", "message"), [("more", "'nose' is unknown"), ("fewer", "'null_vector' is missing")])
def test_talk3d_converts_strictly(change: str, message: str) -> None:
    table = key_table("talk3d")
    state = {key: torch.empty(shape, device="meta") for key, shape in table.shapes.items() if key not in table.optional}
    state = state | {"nose": state["null_vector"]} if change == "more" else {key: state[key] for key in state if key != "null_vector"}
    with pytest.raises(WeightsError, match=message):
        trained_talk3d_state(state)


@pytest.mark.usefixtures("in_process")
def test_other_objects_in_a_talk3d_checkpoint_are_not_made(tmp_path: Path, home: Path) -> None:
    """The optimiser is inert, and what hides in its place is refused."""
    state = untuned()
    with pytest.raises(WeightsError, match="nothing in it was executed"):
        import_checkpoint(published_talk3d(tmp_path / "x.pt", state, optimizer=Canary(tmp_path / "canary")))
    assert not home.exists() and not (tmp_path / "canary").exists()


@pytest.mark.usefixtures("in_process")
def test_a_tuned_super_resolution_is_kept_and_gfpgans_is_named(tmp_path: Path) -> None:
    state = filled("talk3d")
    report = import_checkpoint(published_talk3d(tmp_path / "tuned.pt", state))
    stored = load_weights(report.target, layout="talk3d").tensors
    assert report.left_out == ()
    for published_key, ours in super_resolution_names("super_resolution").items():
        assert torch.equal(stored[ours], state[published_key])
    foreign = {"conv_body_first.weight": torch.ones(1)}
    report = import_checkpoint(published_talk3d(tmp_path / "gfpgan.pt", untuned(), superresolution=foreign))
    assert report.left_out == ("superresolution",) and "superresolution" in str(report)
    assert not any(key.startswith("super_resolution") for key in load_weights(report.target).tensors)


@pytest.mark.usefixtures("in_process")
def test_a_persons_arrays_are_told_apart_by_their_shape(tmp_path: Path, home: Path) -> None:
    landmarks = torch.rand(4, 6, 2)
    arrays = {
        "inversion_w_person.pt": (torch.randn(1, 512, requires_grad=True), "talk3d_person", "style"),
        "inversion_0-0_angles.pt": (torch.randn(4, 2), "talk3d_cameras", "angles_rad"),
        "angles.pt": (torch.randn(4, 3, dtype=torch.float64), "talk3d_rotation", "rotation_deg"),
        "landmarks.pt": (landmarks, "talk3d_landmarks", "landmarks"),
    }
    for name, (array, _, _) in arrays.items():
        torch.save(array, tmp_path / name)
    for name in ("28_79000.pt", "29_80000.pt", "29_80000_tune.pt", "ID_triplane.pt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in importable(tmp_path)] == sorted([*arrays, "29_80000_tune.pt"])
    for name, (array, layout, key) in arrays.items():
        report = import_checkpoint(tmp_path / name)
        assert report.target == home / f"{layout}.safetensors"
        tensor = load_weights(report.target, layout=layout, verify=True).tensors[key]
        # Of six landmarks, nose and outer corners of the eyes are shown to the networks.
        expected = {"style": array.detach()[0], "landmarks": landmarks[:, [0, 2, 3]]} if key in ("style", "landmarks") else {key: array}
        assert torch.equal(tensor, expected[key].float())
    for name, array, message in (
        ("shape", torch.zeros(2, 512), "is none of Talk3D's"),
        ("nan", torch.full((1, 512), torch.nan), "NaN"),
        ("sparse", torch.eye(3).to_sparse(), "no ordinary tensor"),
    ):
        torch.save(array, tmp_path / f"{name}.pt")
        with pytest.raises(WeightsError, match=message):
            import_checkpoint(tmp_path / f"{name}.pt")


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("name", "is_bare", "layout", "planes"),
    [
        ("G_tune.pkl", True, "talk3d_generator", "eg3d_fixed"),
        ("ffhq-fixed-triplane512-128.pkl", False, "eg3d", "eg3d_fixed"),
        ("ffhqrebalanced512-128.pkl", False, "eg3d", None),
    ],
)
def test_generators_know_which_axes_their_planes_span(
    name: str, is_bare: bool, layout: str, planes: str | None, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(importers.CONVERTERS, "eg3d", lambda published: ({"w": published["backbone.mapping.w_avg"]}, {}))
    state, table = filled("eg3d"), key_table("eg3d")
    if is_bare:
        (tmp_path / name).write_bytes(pickle.dumps(persistent_network(state, table.buffers)))
    else:
        network_pickle(tmp_path / name, state, table.buffers)
    report = import_checkpoint(tmp_path / name)
    assert report.target == home / f"{layout}.safetensors"
    assert load_weights(report.target, layout=layout).config.get("prior") == (planes and {"layout": planes})


@pytest.fixture
def plain_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audio to motion, the smallest layout, without folding."""
    monkeypatch.setitem(importers.CONVERTERS, "real3d_a2m", lambda published: (dict(published), {}))


@pytest.mark.usefixtures("in_process", "plain_converter")
def test_export_and_import_are_bit_equal(tmp_path: Path, home: Path) -> None:
    source = published(tmp_path / "x.ckpt", filled("real3d_a2m"), syncnet={"a": torch.ones(1)})
    first = import_checkpoint(source, tmp_path / "one")
    assert first.left_out == ("syncnet",)
    again = import_checkpoint(source, tmp_path / "two")
    assert first.target.read_bytes() == again.target.read_bytes()
    passed_on = import_checkpoint(first.target)
    assert passed_on.target == home / "real3d_a2m.safetensors"
    assert passed_on.target.read_bytes() == first.target.read_bytes()
    assert passed_on.sha256 == sha256_of(source)


@pytest.mark.usefixtures("in_process", "plain_converter")
def test_a_bad_file_leaves_the_old_import_alone(tmp_path: Path, home: Path) -> None:
    state = filled("real3d_a2m")
    target = import_checkpoint(published(tmp_path / "x.ckpt", state)).target
    before = target.read_bytes()
    for change in ({"pitch_embed.weight": torch.zeros(3)}, {"cond_proj.bias": torch.full((128,), torch.nan)}):
        with pytest.raises(WeightsError, match=next(iter(change))):
            import_checkpoint(published(tmp_path / "x.ckpt", state | change))
    assert target.read_bytes() == before and [path.name for path in home.iterdir()] == [target.name]


@pytest.mark.usefixtures("in_process")
def test_numbers_that_fold_to_infinity_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setitem(importers.CONVERTERS, "real3d_a2m", lambda published: ({"folded": torch.tensor([torch.inf])}, {}))
    with pytest.raises(WeightsError, match="infinity in 'folded'"):
        import_checkpoint(published(tmp_path / "x.ckpt", filled("real3d_a2m")))
    assert not home.exists()


def test_what_a_folder_holds_is_found(tmp_path: Path) -> None:
    for name in ("ckpts/a2m", "ckpts/torso", "ckpts/none"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a2m/model_ckpt_steps_1.ckpt", "torso/model_ckpt_steps_1.ckpt", "none/mit_b0.pth", "x.pkl"):
        (tmp_path / "ckpts" / name).write_bytes(b"x")
    assert [path.name for path in importable(tmp_path)] == ["a2m", "torso", "x.pkl"]
    with pytest.raises(WeightsError, match="holds no model_ckpt_steps"):
        importable(tmp_path / "ckpts" / "none")


# Our own files


def test_stored_files_carry_everything(tmp_path: Path) -> None:
    tensors = {
        "b": torch.arange(6.0).reshape(2, 3).T,
        "a": torch.tensor(3),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    save_weights(
        tmp_path / "new" / "x.safetensors",
        tensors,
        layout="l",
        config={"width": 3, "sizes": [1, 2]},
        provenance=PROVENANCE,
    )
    stored = load_weights(tmp_path / "new" / "x.safetensors", layout="l", verify=True)
    assert all(torch.equal(stored.tensors[key], tensor) and stored.tensors[key].dtype == tensor.dtype for key, tensor in tensors.items())
    assert stored.config == {"width": 3, "sizes": [1, 2]} and stored.provenance == PROVENANCE
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.safetensors"]
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "new" / "x.safetensors").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_changed_files_of_ours_are_found_out(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "x.safetensors"
    save_weights(file, {"a": torch.ones(4)}, layout="l", config={}, provenance=PROVENANCE)
    tensors, metadata = load_safetensors(file)
    save_file({"a": tensors["a"] + 1}, file, metadata)
    load_weights(file)
    with pytest.raises(WeightsError, match="has changed since"):
        load_weights(file, verify=True)
    with pytest.raises(WeightsError, match="holds l weights where m are needed"):
        load_weights(file, layout="m")
    for damaged in (metadata["triportrait"][:-3], "{}", "[]"):
        save_file(tensors, file, {"triportrait": damaged})
        with pytest.raises(WeightsError, match="damaged metadata"):
            load_weights(file)
    save_file(tensors, file, {"triportrait": metadata["triportrait"].replace("weights-1", "weights-9")})
    with pytest.raises(WeightsError, match="another version"):
        load_weights(file)
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="not written by"):
        load_weights(file)


def test_digest_tells_names_shapes_and_kinds_apart() -> None:
    zeros = torch.zeros(4)
    states = [{"a": zeros}, {"b": zeros}, {"a": zeros.reshape(2, 2)}, {"a": zeros.int()}, {"a": zeros + 1}]
    assert len({digest_of(state) for state in states}) == len(states)
    assert digest_of({"a": torch.zeros(1), "b": torch.ones(1)}) == digest_of({"b": torch.ones(1), "a": torch.zeros(1)})


def test_an_unwritable_target_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        save_weights(tmp_path / "file" / "x.safetensors", {"a": torch.ones(1)}, layout="l", config={}, provenance=PROVENANCE)


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert weights_home() == tmp_path / "home" / "weights"
    with pytest.raises(WeightsError, match="'real3d_torso' are not imported.*triportrait weights import"):
        find_weights("real3d_torso")
    monkeypatch.delenv("TRIPORTRAIT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert weights_home() == tmp_path / "data" / "triportrait" / "weights"


# The face model


def face_model(folder: Path, **changes: object) -> Path:
    from scipy.io import savemat

    folder.mkdir(exist_ok=True)
    generator, count = np.random.default_rng(0), 30
    content = {
        "meanshape": generator.normal(size=(1, 3 * count)),
        "idBase": generator.normal(size=(3 * count, 80)),
        "exBase": generator.normal(size=(3 * count, 64)),
        "tri": generator.integers(1, count + 1, (50, 3)).astype(float),
        "keypoints": generator.integers(1, count + 1, (1, 68)).astype(float),
    } | changes
    savemat(folder / "BFM_model_front.mat", {name: value for name, value in content.items() if value is not None})
    np.save(folder / "index_mp468_from_mesh35709.npy", np.full(468, 5))
    return folder


def test_the_face_model_is_copied_with_what_belongs_to_it(tmp_path: Path, home: Path) -> None:
    source = face_model(tmp_path / "BFM")
    assert importable(source) == [source]
    report = import_checkpoint(source)
    assert report.layout == "bfm" and report.target == home / "bfm" / "BFM_model_front.mat"
    assert sorted(path.name for path in (home / "bfm").iterdir()) == [
        "BFM_model_front.mat",
        "index_mp468_from_mesh35709.npy",
        "provenance.json",
    ]
    assert verify_bfm(home / "bfm") == 30
    import_checkpoint(report.target)  # importing it once more where it lies changes nothing
    assert verify_bfm(home / "bfm") == 30
    np.save(home / "bfm" / "index_mp468_from_mesh35709.npy", np.full(468, 6))
    with pytest.raises(WeightsError, match="has changed"):
        verify_bfm(home / "bfm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exBase": None}, "'exBase' is missing"),
        ({"idBase": np.zeros((90, 79))}, "'idBase' has the shape"),
        ({"meanshape": np.full((1, 90), np.nan)}, "no sensible numbers in 'meanshape'"),
        ({"tri": np.full((5, 3), 31.0)}, "'tri' names vertices that do not exist"),
        ({"keypoints": np.zeros((1, 68))}, "'keypoints' names vertices"),
    ],
    ids=["missing", "shape", "nan", "index", "zero"],
)
def test_other_face_models_are_refused(tmp_path: Path, home: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        import_checkpoint(face_model(tmp_path / "BFM", **changes))
    assert not home.exists()


def test_a_cut_face_model_is_refused(tmp_path: Path) -> None:
    file = face_model(tmp_path / "BFM") / "BFM_model_front.mat"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(WeightsError, match="cannot be read as a MATLAB file"):
        import_checkpoint(file)


def test_reading_our_own_file_as_a_checkpoint_keeps_its_metadata(tmp_path: Path) -> None:
    save_weights(tmp_path / "x.safetensors", {"a": torch.ones(1)}, layout="l", config={}, provenance=PROVENANCE)
    assert read_checkpoint(tmp_path / "x.safetensors").info.metadata.keys() == {"triportrait"}


# HuBERT


def hubert(folder: Path, **changes: object) -> Path:
    """A HuBERT folder of transformers, four numbers wide."""
    folder.mkdir()
    config = {"model_type": "hubert", "hidden_size": 4, "num_hidden_layers": 2, "intermediate_size": 6} | changes
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text("{}")
    state = {
        "hubert.feature_extractor.conv_layers.0.conv.weight": torch.randn(4, 1, 10),
        "lm_head.weight": torch.randn(32, 4),
    }
    for layer in range(2):
        stem = f"hubert.encoder.layers.{layer}"
        state |= {f"{stem}.attention.{name}_proj.weight": torch.randn(4, 4) for name in ("q", "k", "v", "out")}
        state |= {f"{stem}.feed_forward.intermediate_dense.weight": torch.randn(6, 4)}
        state |= {f"{stem}.feed_forward.output_dense.weight": torch.randn(4, 6)}
    torch.save(state, folder / "pytorch_model.bin")
    return folder


@pytest.mark.usefixtures("in_process")
def test_hubert_becomes_a_folder_without_pickles(tmp_path: Path, home: Path) -> None:
    source = hubert(tmp_path / "large")
    assert importable(tmp_path) == [source]
    report = import_checkpoint(source)
    assert report.layout == "hubert" and report.target == home / "hubert"
    assert sorted(path.name for path in report.target.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    tensors, metadata = load_safetensors(report.target / "model.safetensors")
    published_state = torch.load(source / "pytorch_model.bin", weights_only=True)
    assert tensors.keys() == published_state.keys() and metadata["format"] == "pt"
    assert all(torch.equal(tensor, published_state[key]) for key, tensor in tensors.items())
    assert load_weights(report.target / "model.safetensors", layout="hubert", verify=True).provenance.source_sha256 == report.sha256


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, "layers.2.*missing"),
        ({"num_hidden_layers": 1}, "more than the 1"),
        ({"hidden_size": 8}, "shape"),
        ({"hidden_size": None}, "no complete"),
    ],
    ids=["more", "fewer", "wider", "incomplete"],
)
def test_hubert_must_be_what_its_configuration_says(tmp_path: Path, home: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        import_checkpoint(hubert(tmp_path / "large", **changes))
    assert not home.exists()


@pytest.mark.usefixtures("in_process")
def test_wav2vec2_needs_its_classes(tmp_path: Path, home: Path) -> None:
    folder = hubert(tmp_path / "large", model_type="wav2vec2")
    state = {key.replace("hubert.", "wav2vec2."): tensor for key, tensor in torch.load(folder / "pytorch_model.bin").items()}
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="lm_head"):
        import_checkpoint(folder)
    torch.save(state | {"lm_head.bias": torch.zeros(32)}, folder / "pytorch_model.bin")
    assert importable(tmp_path) == [folder]
    assert import_checkpoint(folder).target == home / "wav2vec2"


def _ruin(file: Path, kind: str, canary: Path) -> None:
    state = torch.load(file, weights_only=True)
    if kind == "code":
        torch.save(state | {"z": Canary(canary)}, file)
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:-200])
    elif kind == "nan":
        torch.save(state | {"lm_head.weight": torch.full((32, 4), torch.nan)}, file)
    elif kind == "foreign":
        torch.save(state | {"nose.weight": torch.zeros(2)}, file)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("kind", "message"),
    [("code", "nothing in it was executed"), ("cut", "cut off or damaged"), ("nan", "NaN or infinity"), ("foreign", "nose.weight")],
)
def test_a_ruined_hubert_is_refused(tmp_path: Path, home: Path, kind: str, message: str) -> None:
    folder = hubert(tmp_path / "large")
    _ruin(folder / "pytorch_model.bin", kind, tmp_path / "canary")
    with pytest.raises(WeightsError, match=message):
        import_checkpoint(folder)
    assert not home.exists() and not (tmp_path / "canary").exists()


def test_code_in_a_face_models_arrays_is_not_run(tmp_path: Path, home: Path, open_head: OpenHead) -> None:
    model = synthetic_bfm(tmp_path / "bfm", open_head)
    np.save(model.with_name(INDEX_FILE), np.array([Canary(tmp_path / "canary")], object), allow_pickle=True)
    with pytest.raises(WeightsError, match="whole numbers"):
        import_checkpoint(model.parent)
    with pytest.raises(WeightsError, match=INDEX_FILE):
        BfmHead.from_file(model, index_mp468=model.with_name(INDEX_FILE))
    assert not home.exists() and not (tmp_path / "canary").exists()
