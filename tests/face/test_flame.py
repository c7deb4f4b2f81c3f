"""The FLAME layout on synthetic files: geometry by hand, joints, and pickles that must not run."""

from __future__ import annotations

import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from triportrait.errors import MissingPart, WeightsError
from triportrait.face.flame import JAW_FULL_RAD, FlameHead, _array, _read_landmarks, load_plain_pickle
from triportrait.face.pncc import pncc
from triportrait.types import HeadModel

SKIN, EYE = 60, 6  # vertices of the sheet that stands for the skin, and of each eyeball


def synthetic(random: np.random.Generator) -> dict[str, np.ndarray]:
    """A sheet of skin and two octahedra for eyes, in the file's layout, metres; the lower half hangs on the jaw."""
    x, y = np.meshgrid(np.linspace(-0.08, 0.08, 6), np.linspace(0.1, -0.1, 10))
    skin = np.stack([x, y, 0.05 - 3 * x**2], -1).reshape(-1, 3)
    octahedron = 0.012 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    centres = np.array([[0.03, 0.04, 0.02], [-0.03, 0.04, 0.02]])
    template = np.concatenate([skin, *(octahedron + centre for centre in centres)])
    corner = (np.arange(9)[:, None] * 6 + np.arange(5)).reshape(-1)
    sheet = [np.stack([corner, corner + 6, corner + 1], -1), np.stack([corner + 1, corner + 6, corner + 7], -1)]
    ball = np.array([[4, 0, 2], [4, 2, 1], [4, 1, 3], [4, 3, 0], [5, 2, 0], [5, 1, 2], [5, 3, 1], [5, 0, 3]])
    count = len(template)
    weights = np.zeros((count, 5))
    weights[:SKIN, 1] = 1
    weights[:SKIN][skin[:, 1] < -0.02] = (0, 0, 1, 0, 0)
    weights[SKIN : SKIN + EYE, 3], weights[SKIN + EYE :, 4] = 1, 1
    regressor = np.zeros((5, count))
    regressor[0, 55], regressor[1, 20], regressor[2, 30] = 1, 1, 1
    regressor[3, SKIN : SKIN + EYE], regressor[4, SKIN + EYE :] = 1 / EYE, 1 / EYE
    return {
        "v_template": template,
        "shapedirs": 0.001 * random.normal(size=(count, 3, 400)),
        "posedirs": np.zeros((count, 3, 36)),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "f": np.concatenate([*sheet, ball + SKIN, ball + SKIN + EYE]).astype(np.uint32),
    }


@pytest.fixture
def data(seed: int) -> dict[str, np.ndarray]:
    return synthetic(np.random.default_rng(seed))


@pytest.fixture
def head(data: dict[str, np.ndarray], tmp_path: Path) -> FlameHead:
    np.savez(tmp_path / "flame.npz", **data)
    return FlameHead.from_file(tmp_path / "flame.npz")


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that pickles under chumpy's name, with the state chumpy keeps."""

    class Ch:
        def __init__(self, x: np.ndarray) -> None:
            self.x, self._dirty_vars, self._itr = x, {"x"}, None

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", types.ModuleType("chumpy.ch"))
    sys.modules["chumpy.ch"].Ch = Ch
    return Ch


NEUTRAL = np.zeros(103, np.float32)


def curve(**values: float) -> np.ndarray:
    expression = NEUTRAL.copy()
    for name, value in values.items():
        expression[FlameHead.expression_names.index(name)] = value
    return expression


def test_coefficients_move_the_template_in_decimetres(head, data):
    assert isinstance(head, HeadModel)
    np.testing.assert_allclose(head.vertices(np.zeros(300), NEUTRAL), 10 * data["v_template"], atol=1e-6)
    moved = head.vertices(np.eye(300)[7], curve(expression_012=2.0))
    expected = data["v_template"] + data["shapedirs"][:, :, 7] + 2 * data["shapedirs"][:, :, 312]
    np.testing.assert_allclose(moved, 10 * expected, atol=1e-5)
    np.testing.assert_array_equal(head.vertices(np.eye(300)[7][:10], NEUTRAL), head.vertices(np.eye(300)[7], NEUTRAL))
    with pytest.raises(ValueError, match="expression"):
        head.vertices(np.zeros(300), np.zeros(100))


def test_the_jaw_opens_downwards_about_its_joint_and_goes_to_the_subjects_left(head):
    neutral = head.vertices(np.zeros(300), NEUTRAL)
    opened = head.vertices(np.zeros(300), curve(jawOpen=1.0))
    chin = slice(54, 60)
    assert (opened[chin, 2] < neutral[chin, 2]).all()  # the chin swings back
    np.testing.assert_allclose(opened[:30], neutral[:30], atol=1e-6)  # the upper face stays
    hinge, tip = neutral[30], neutral[55]
    cosine, sine = np.cos(JAW_FULL_RAD[0]), np.sin(JAW_FULL_RAD[0])
    arm = tip - hinge
    turned = hinge + (arm[0], cosine * arm[1] - sine * arm[2], sine * arm[1] + cosine * arm[2])
    np.testing.assert_allclose(opened[55], turned, atol=1e-5)
    left = head.vertices(np.zeros(300), curve(jawLeft=1.0))
    assert (left - neutral)[56, 0] > 0


def test_eyes_turn_about_their_centres_and_the_neck_carries_everything(head):
    neutral = head.vertices(np.zeros(300), NEUTRAL)
    pupils = [SKIN + 4, SKIN + EYE + 4]
    up = head.vertices(np.zeros(300), NEUTRAL, np.array([0.3, 0.0]))
    right = head.vertices(np.zeros(300), NEUTRAL, np.array([0.0, 0.3]))
    assert ((up - neutral)[pupils, 1] > 0.01).all() and ((right - neutral)[pupils, 0] > 0.01).all()
    np.testing.assert_allclose(up[:SKIN], neutral[:SKIN], atol=1e-6)
    for start in (SKIN, SKIN + EYE):
        np.testing.assert_allclose(up[start : start + EYE].mean(0), neutral[start : start + EYE].mean(0), atol=1e-5)
    turned = head.vertices(np.zeros(300), curve(jawOpen=0.5), np.array([0.1, 0.2]), np.array([0.1, 0.4, -0.2]))
    still = head.vertices(np.zeros(300), curve(jawOpen=0.5), np.array([0.1, 0.2]))
    between = np.linalg.norm(turned[:, None] - turned, axis=-1) - np.linalg.norm(still[:, None] - still, axis=-1)
    np.testing.assert_allclose(between, 0, atol=1e-4)  # the neck's rotation is rigid for all that hangs on it
    np.testing.assert_allclose(turned[20], neutral[20], atol=1e-5)  # and leaves its own joint in place


def test_pose_correctives_follow_the_jaws_rotation(data, tmp_path):
    data["posedirs"][3, 1, 9 + 5] = 0.02  # joint 2 (jaw), entry (1, 2) of R - I, which is -sin
    np.savez(tmp_path / "flame.npz", **data)
    head = FlameHead.from_file(tmp_path / "flame.npz")
    difference = head.vertices(np.zeros(300), curve(jawOpen=1.0)) - head.vertices(np.zeros(300), NEUTRAL)
    assert difference[3, 1] == pytest.approx(-0.2 * np.sin(JAW_FULL_RAD[0]), abs=1e-5)


def test_eyeballs_are_left_out_of_pncc(head):
    assert head.pncc_triangles.sum() == 90 and head.pncc_triangles[:90].all()
    assert head.ncc_colours.min() == 0 and head.ncc_colours.max() == 1
    picture = pncc(head, head.vertices(np.zeros(300), NEUTRAL), 64)
    assert (picture != -1).any(0)[32, 32]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("sparse", [csc_matrix, csr_matrix])
def test_a_pickle_with_chumpy_and_sparse_arrays_is_the_same_model(data, head, tmp_path, chumpy, protocol, sparse):
    foreign = dict(data, shapedirs=chumpy(data["shapedirs"]), v_template=chumpy(data["v_template"]))
    foreign.update(J_regressor=sparse(data["J_regressor"]), bs_type="lrotmin", vert_sym_idxs=np.arange(3), n=np.int64(5))
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(foreign, protocol))
    read = FlameHead.from_file(tmp_path / "flame.pkl")
    expression = curve(jawOpen=0.7, expression_001=1.0)
    # The same numbers in the same order in memory, so the same arithmetic: to the last bit.
    np.testing.assert_array_equal(
        read.vertices(np.ones(300), expression, np.array([0.1, 0.1])),
        head.vertices(np.ones(300), expression, np.array([0.1, 0.1])),
    )


class Attack:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_wants_to_run_something_is_refused_and_does_not_run(data, tmp_path, protocol):
    trace = tmp_path / "trace"
    for attack in (
        Attack(os.system, f"touch {trace}"),
        Attack(eval, f"open({str(trace)!r}, 'w')"),
        Attack(getattr, np.ndarray, "tofile"),
        Attack(open, str(trace), "w"),
    ):
        path = tmp_path / "attack.pkl"
        path.write_bytes(pickle.dumps(dict(data, v_template=attack), protocol))
        with pytest.raises(WeightsError, match=r"attack\.pkl cannot be read as plain data.*which is no plain data"):
            FlameHead.from_file(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"ccopyreg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.",
        b"c_codecs\nencode\n(Vabc\nVzlib\ntR.",
        b"cnumpy\nload\n(Vx\ntR.",
        b"cos\nsystem\n.",
        b"",
        b"\x80\x05garbage",
    ],
)
def test_handmade_pickles_cannot_reach_further(text):
    with pytest.raises(WeightsError, match="plain data"):
        load_plain_pickle(text, "file.pkl")


@pytest.mark.parametrize(
    "change",
    [
        {"v_template": np.zeros((5, 3))},
        {"shapedirs": np.zeros((72, 3, 150))},
        {"f": np.array([[0, 1, 500]])},
        {"kintree_table": np.array([[0, 3, 1, 1, 1], [0, 1, 2, 3, 4]])},
        {"kintree_table": np.zeros(5)},
        {"weights": np.full((72, 5), np.nan)},
        {"weights": np.array("text")},
        {"posedirs": None},
    ],
)
def test_a_foreign_layout_is_one_sentence_with_a_remedy(data, tmp_path, change):
    data.update(change)
    np.savez(tmp_path / "model.npz", **{name: value for name, value in data.items() if value is not None})
    with pytest.raises(WeightsError, match=r"model\.npz is not.*flame\.is\.tue\.mpg\.de.*non-commercial"):
        FlameHead.from_file(tmp_path / "model.npz")


def test_missing_and_damaged_files_are_one_sentence_with_a_remedy(data, tmp_path):
    np.savez(tmp_path / "flame.npz", **data)
    contents = [
        b"",
        b"text",
        (tmp_path / "flame.npz").read_bytes()[:5000],
        pickle.dumps([1, 2]),
        pickle.dumps(data)[:900],
    ]
    for content in contents:
        (tmp_path / "broken.pkl").write_bytes(content)
        with pytest.raises(WeightsError, match=r"broken\.pkl.*non-commercial"):
            FlameHead.from_file(tmp_path / "broken.pkl")
    with pytest.raises(WeightsError, match="There is no FLAME file"):
        FlameHead.from_file(tmp_path / "nothing.pkl")


def test_landmarks_come_from_the_embeddings_of_the_user(data, head, tmp_path):
    vertices = head.vertices(np.zeros(300), NEUTRAL)
    with pytest.raises(MissingPart, match=r"landmark_embedding\.npy"):
        head.landmarks68(vertices)
    assert np.isnan(head.landmarks478(vertices)).all()
    triangle, weights = np.arange(68), np.tile([0.2, 0.3, 0.5], (68, 1))
    np.save(tmp_path / "68.npy", {"full_lmk_faces_idx": triangle[None], "full_lmk_bary_coords": weights[None]})
    np.savez(tmp_path / "mp.npz", landmark_indices=[10, 400], lmk_face_idx=[3, 4], lmk_b_coords=np.eye(3)[:2])
    np.savez(tmp_path / "flame.npz", **data)
    full = FlameHead.from_file(tmp_path / "flame.npz", landmarks=tmp_path / "68.npy", mediapipe=tmp_path / "mp.npz")
    corners = vertices[data["f"][:68].astype(int)]
    np.testing.assert_allclose(full.landmarks68(vertices), (corners * weights[..., None]).sum(1), atol=1e-6)
    found = full.landmarks478(vertices)
    assert np.flatnonzero(~np.isnan(found[:, 0])).tolist() == [10, 400]
    np.testing.assert_allclose(found[400], vertices[int(data["f"][4, 1])], atol=1e-6)
    (tmp_path / "68.npy").write_bytes(b"text")
    with pytest.raises(WeightsError, match=r"68\.npy"):
        FlameHead.from_file(tmp_path / "flame.npz", landmarks=tmp_path / "68.npy")


def pickled_array(dtype_state: str, word: str = "V8", data: str = "S'AAAAAAAA'\n") -> bytes:
    """An array of one element whose type and bytes the file chooses, in pickle's protocol 0."""
    return (
        f"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\ntcnumpy\ndtype\n(S'{word}'\nI0\nI1\ntR"
        f"{dtype_state}I00\n{data}tb."
    ).encode()


FIELDS = "(dS'a'\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntRI0\nts"
LYING = {
    "record": pickled_array(f"(I3\nS'|'\nN(S'a'\nt{FIELDS}I8\nI1\nI0\ntb"),
    "record_of_numbers": pickled_array(f"(I3\nS'|'\nN(S'a'\nt{FIELDS}I8\nI1\nI0\ntb", "f8"),
    "subarray": pickled_array("(I3\nS'|'\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I1\nttNNI8\nI1\nI0\ntb"),
    "void": pickled_array("(I3\nS'|'\nNNNI8\nI1\nI27\ntb"),
    "date": pickled_array("(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb", "M8"),
    "changed_function": b"cnumpy\ndtype\n(dS'__call__'\nI1\nsb.",
    "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
}


@pytest.mark.parametrize("name", LYING)
def test_lying_number_types_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="cannot be read as plain data"):
        load_plain_pickle(LYING[name], "file.pkl")
    header = np.lib.format.magic(1, 0) + (118).to_bytes(2, "little")
    header += b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    (tmp_path / "embedding.npy").write_bytes(header + LYING[name])
    with pytest.raises(WeightsError):
        _read_landmarks(tmp_path / "embedding.npy")


@pytest.mark.parametrize("data", ["S'AAAA'\n", "(lp0\nI1\na", "I5\n"])
def test_numbers_that_are_not_there_are_refused(data: str) -> None:
    text = pickled_array("(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb", "f8", data)
    with pytest.raises(ValueError, match="cut off|no array of numbers"):
        _array(load_plain_pickle(text, "file.pkl"), "x")


@pytest.mark.parametrize("shape", [(10**6, 10**6), (5, -3)])
def test_sparse_matrices_are_bounded(data: dict[str, np.ndarray], tmp_path: Path, shape: tuple[int, int]) -> None:
    matrix = csc_matrix(np.eye(3))
    matrix._shape = shape
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(data | {"J_regressor": matrix}))
    with pytest.raises(WeightsError, match="not laid out like FLAME"):
        FlameHead.from_file(tmp_path / "model.pkl")


def test_shared_segfaults_are_refused(shared: Path) -> None:
    folder = shared / "cases" / "reliability"
    with pytest.raises(WeightsError):
        load_plain_pickle((folder / "flame_dtype_segfault.pkl").read_bytes(), "file.pkl")
    with pytest.raises(WeightsError):
        _read_landmarks(folder / "flame_landmark_embedding_segfault.npy")
