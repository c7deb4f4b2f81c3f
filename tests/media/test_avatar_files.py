"""Avatar files: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from triportrait.errors import MediaError, OutputError
from triportrait.media import avatar_files
from triportrait.media.avatar_files import describe_avatar, load_avatar, looks_like_avatar, save_avatar
from triportrait.types import WARP_COLUMNS, MotionFrame, PersonalDelta, PersonalManner, PreparedPortrait, RefinedPlanes


@pytest.fixture(scope="module")
def portrait() -> PreparedPortrait:
    random = np.random.default_rng(0)

    def picture(*shape: int) -> np.ndarray:
        return random.integers(0, 256, shape, dtype=np.uint8)

    def numbers(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    alpha = random.random((64, 64), np.float32)
    motion = MotionFrame(numbers(44), numbers(3), numbers(3), numbers(2), numbers(478, 2))
    return PreparedPortrait(
        photo=picture(90, 120, 3),
        crop_box=(10.25, -3.5, 71.125),
        image=picture(64, 64, 3),
        person_alpha=alpha,
        head_alpha=0.7 * alpha,
        torso=picture(64, 64, 4),
        background=picture(64, 64, 3),
        landmarks=numbers(478, 3),
        identity=numbers(80),
        vertex_offset=numbers(500, 3),
        motion=motion,
        focal=4.0,
        head_model="open",
    )


@pytest.fixture(scope="module")
def refined() -> RefinedPlanes:
    planes = (np.full((4, h, w), 0.5, np.float32) for h, w in ((8, 8), (6, 8), (6, 8)))
    return RefinedPlanes(*planes, "ab" * 32, 12, 30.5, 33.25)


def expect_equal(one: object, other: object) -> None:
    for name in one.__slots__:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, name)
        elif isinstance(a, MotionFrame):
            expect_equal(a, b)
        else:
            assert a == b, name


@pytest.mark.parametrize("with_planes", [False, True])
def test_what_goes_in_comes_out(with_planes: bool, portrait: PreparedPortrait, refined: RefinedPlanes, tmp_path: Path) -> None:
    path = save_avatar(tmp_path / "any name", portrait, refined if with_planes else None)
    assert looks_like_avatar(path)
    found = load_avatar(path)
    expect_equal(found.portrait, portrait)
    if with_planes:
        expect_equal(found.refined, refined)
    else:
        assert found.refined is None
    again = save_avatar(tmp_path / "again", found.portrait, found.refined)
    assert again.read_bytes() == path.read_bytes()


def test_a_portrait_without_landmarks_in_its_motion(portrait: PreparedPortrait, tmp_path: Path) -> None:
    plain = replace(portrait, motion=replace(portrait.motion, landmarks=None))
    expect_equal(load_avatar(save_avatar(tmp_path / "a", plain)).portrait, plain)


def test_a_persons_manner(portrait: PreparedPortrait, tmp_path: Path) -> None:
    style, voice = np.linspace(-1, 1, 10).astype(np.float32), np.arange(7, dtype=np.float32)
    for manner in (PersonalManner(style, voice), PersonalManner(style), PersonalManner(None, voice)):
        found = load_avatar(save_avatar(tmp_path / "a", replace(portrait, manner=manner))).portrait.manner
        for one, other in ((found.style, manner.style), (found.voice, manner.voice)):
            assert (one is None) == (other is None) and (one is None or np.array_equal(one, other))
    # Older versions read what holds no more than they know.
    assert version_of(save_avatar(tmp_path / "b", portrait)) == 1


def made_up_delta(pictures: int = 3, side: int = 16) -> PersonalDelta:
    random = np.random.default_rng(2)
    level, lowest, highest = random.random((3, pictures)).astype(np.float32)
    steps = random.integers(0, 256, (pictures, side, side, 3)).astype(np.uint8)
    return PersonalDelta(steps, level, random.standard_normal((pictures, 9)).astype(np.float32), lowest - 1, highest + 1)


def test_a_persons_delta(portrait: PreparedPortrait, tmp_path: Path) -> None:
    delta = made_up_delta()
    path = save_avatar(tmp_path / "a", replace(portrait, delta=delta))
    found = load_avatar(path).portrait.delta
    assert found is not None
    for name in ("pictures", "level", "weights", "lowest", "highest"):
        np.testing.assert_array_equal(getattr(found, name), getattr(delta, name))
    assert "3 pictures" in describe_avatar(path)
    assert version_of(path) == 2


def test_a_network_asks_for_a_newer_reader(portrait: PreparedPortrait, tmp_path: Path) -> None:
    """Who reads format 2 alone says that it is too old, and not that the file is damaged."""
    weights = np.linspace(-1, 1, 30).astype(np.float32)
    path = save_avatar(tmp_path / "a", replace(portrait, delta=replace(made_up_delta(), network=weights)))
    assert version_of(path) == 3
    delta = load_avatar(path).portrait.delta
    assert delta is not None and delta.network is not None
    np.testing.assert_array_equal(delta.network, weights)
    assert "avatar file 3" in describe_avatar(path) and "a network beside them" in describe_avatar(path)


def test_pictures_of_other_takes_ask_for_a_newer_reader(portrait: PreparedPortrait, tmp_path: Path) -> None:
    other = replace(portrait, photo=portrait.image, crop_box=(0.0, 0.0, 64.0))
    path = save_avatar(tmp_path / "a", replace(portrait, others=(other, replace(other, same_take=False))))
    assert version_of(path) == 3
    assert [one.same_take for one in load_avatar(path).portrait.others] == [True, False]
    assert version_of(save_avatar(tmp_path / "b", replace(portrait, others=(other,)))) == 2


@pytest.mark.parametrize(
    "delta", [made_up_delta(side=8), made_up_delta(129), replace(made_up_delta(), level=np.full(3, np.nan, np.float32))]
)
def test_a_delta_that_is_not_sound(delta: PersonalDelta, portrait: PreparedPortrait, tmp_path: Path) -> None:
    path = save_avatar(tmp_path / "a.avatar", replace(portrait, delta=delta))
    with pytest.raises(MediaError, match="damaged"):
        load_avatar(path)


def header_of(path: Path) -> bytes:
    data = path.read_bytes()
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def version_of(path: Path) -> int:
    return int(json.loads(json.loads(header_of(path))["__metadata__"][avatar_files.ENTRY])["version"])


@pytest.mark.parametrize(("with_bodies", "with_warps"), [(False, False), (True, False), (True, True)])
def test_a_person_of_several_pictures(with_bodies: bool, with_warps: bool, portrait: PreparedPortrait, tmp_path: Path) -> None:
    def another(number: int) -> PreparedPortrait:
        image = np.roll(portrait.image, number, axis=0)
        body = np.full(4, 0.1 * number, np.float32) if with_bodies else None
        motion = replace(portrait.motion, body=body, warp=np.full(len(WARP_COLUMNS), 0.01 * number, np.float32) if with_warps else None)
        return replace(portrait, image=image, photo=image, crop_box=(0.0, 0.0, 64.0), motion=motion, same_take=number == 1)

    person = replace(portrait, others=(another(1), another(2)))
    path = save_avatar(tmp_path / "person.avatar", person)
    found = load_avatar(path).portrait
    expect_equal(replace(found, others=()), portrait)
    assert len(found.others) == 2
    for one, other in zip(found.others, person.others, strict=True):
        expect_equal(one, other)
    assert [one.same_take for one in found.others] == [True, False]
    assert "3 of one person" in describe_avatar(path)
    # Older versions read what has none.
    assert version_of(path) == (4 if with_warps else 3)
    header = path.read_bytes()[:8]
    assert looks_like_avatar(path) and int.from_bytes(header, "little") < 1 << 20
    path.write_bytes(changed(path.read_bytes(), **{"other1.landmarks": np.zeros((478, 3), np.float32)}))
    with pytest.raises(MediaError, match="damaged"):
        load_avatar(path)


def test_it_says_what_is_in_it(portrait: PreparedPortrait, refined: RefinedPlanes, tmp_path: Path) -> None:
    text = describe_avatar(save_avatar(tmp_path / "me.avatar", portrait, refined))
    for words in ("me.avatar", "120 x 90 px", "64 x 64 px", "open, 80 shape coefficients, 500 vertices", "12 steps", "30.5 -> 33.2 dB"):
        assert words in text
    assert "refined:    no" in describe_avatar(save_avatar(tmp_path / "me.avatar", portrait))


def test_other_files_are_none(astronaut_png: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("12345678{")
    assert not any(looks_like_avatar(path) for path in (astronaut_png, tmp_path / "missing", tmp_path, tmp_path / "text"))
    (tmp_path / "broken.avatar").write_bytes(b"junk")
    assert looks_like_avatar(tmp_path / "broken.avatar")
    with pytest.raises(MediaError, match=r"broken\.avatar' is no avatar file, or a damaged one; make it again"):
        load_avatar(tmp_path / "broken.avatar")


def changed(data: bytes, description: dict | None = None, digest: bool = True, **tensors: np.ndarray | None) -> bytes:
    """A file with other entries in its description and other tensors (None: without), and with the right digest for them."""
    length = int.from_bytes(data[:8], "little")
    old = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][avatar_files.ENTRY])
    arrays = {name: array for name, array in (load(data) | tensors).items() if array is not None}
    new = old | (description or {})
    if digest:
        new["digest"] = avatar_files._digest(new, arrays)
    return save(arrays, {avatar_files.ENTRY: json.dumps(new)})


NAN = np.full(3, np.nan, np.float32)
WRONG = {
    "foreign": (lambda data: save({"weight": np.zeros(3, np.float32)}, {"format": "pt"}), "no avatar file"),
    "other_json": (lambda data: save({"weight": np.zeros(3, np.float32)}, {"triportrait": "[1]"}), "no avatar file"),
    "deep_json": (lambda data: save({"weight": np.zeros(3, np.float32)}, {"triportrait": "[" * 100_000}), "no avatar file"),
    "no_metadata": (lambda data: save({"weight": np.zeros(3, np.float32)}), "no avatar file"),
    "newer": (lambda data: changed(data, {"version": 5}), "avatar format 5, this version reads 4; update"),
    "version_word": (lambda data: changed(data, {"version": "one"}), "damaged"),
    "cut": (lambda data: data[:-100], "damaged"),
    "header_only": (lambda data: data[:200], "damaged"),
    "longer": (lambda data: data + b"0", "damaged"),
    "bit": (lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], "changed since it was written"),
    "picture": (lambda data: changed(data, digest=False, image=np.zeros((64, 64, 3), np.uint8)), "changed since it was written"),
    "kind": (lambda data: changed(data, landmarks=np.zeros((478, 3), np.float64)), "damaged"),
    "shape": (lambda data: changed(data, head_alpha=np.zeros((64, 63), np.float32)), "damaged"),
    "axes": (lambda data: changed(data, identity=np.zeros((80, 1), np.float32)), "damaged"),
    "sides": (lambda data: changed(data, torso=np.zeros((32, 32, 4), np.uint8)), "damaged"),
    "nothing": (lambda data: changed(data, identity=np.zeros(0, np.float32)), "damaged"),
    "missing": (lambda data: changed(data, torso=None), "damaged"),
    "unknown": (lambda data: changed(data, more=np.zeros(3, np.float32)), "damaged"),
    "nan": (lambda data: changed(data, **{"motion.rotation_rad": NAN}), "damaged"),
    "bright": (lambda data: changed(data, person_alpha=np.full((64, 64), 2.0, np.float32)), "damaged"),
    "unannounced_planes": (lambda data: changed(data, {"refined": None}), "damaged"),
    "channels": (lambda data: changed(data, **{"planes.down": np.zeros((5, 6, 8), np.float32)}), "damaged"),
    "box": (lambda data: changed(data, {"crop_box": [0.0, float("nan"), 64.0]}), "damaged"),
    "empty_box": (lambda data: changed(data, {"crop_box": [0.0, 0.0, 0.0]}), "damaged"),
    "focal": (lambda data: changed(data, {"focal": 0.0}), "damaged"),
    "far": (lambda data: changed(data, landmarks=np.full((478, 3), 1e30, np.float32)), "damaged"),
    "one_point": (lambda data: changed(data, landmarks=np.zeros((478, 3), np.float32)), "damaged"),
    "one_line": (lambda data: changed(data, landmarks=np.linspace(0, 64, 478, dtype=np.float32)[:, None].repeat(3, 1)), "damaged"),
    "far_vertices": (lambda data: changed(data, vertex_offset=np.full((500, 3), 1e20, np.float32)), "damaged"),
    "header": (lambda data: (1 << 26).to_bytes(8, "little") + b"{" + data, "damaged"),
    "other_missing": (lambda data: changed(data, {"version": 2, "others": 1}), "damaged"),
    "too_many": (lambda data: changed(data, {"version": 2, "others": 1000}), "damaged"),
    "unannounced_other": (lambda data: changed(data, **{"other0.image": np.zeros((64, 64, 3), np.uint8)}), "damaged"),
    "extra": (lambda data: changed(data, {"code": "print()"}), "damaged"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_sound_is_refused_in_one_sentence(
    name: str, portrait: PreparedPortrait, refined: RefinedPlanes, tmp_path: Path
) -> None:
    make, words = WRONG[name]
    path = save_avatar(tmp_path / "a.avatar", portrait, refined)
    path.write_bytes(make(path.read_bytes()))
    with pytest.raises(MediaError) as error:
        load_avatar(path)
    said = str(error.value)
    assert words in said and "a.avatar'" in said and "\n" not in said and len(said) < 300


def test_any_changed_byte_is_noticed(portrait: PreparedPortrait, tmp_path: Path) -> None:
    path = save_avatar(tmp_path / "a.avatar", portrait)
    data, random = path.read_bytes(), np.random.default_rng(1)
    header = int.from_bytes(data[:8], "little") + 8
    for place in (*random.integers(0, header, 60), *random.integers(header, len(data), 20)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        try:
            found = load_avatar(path)
        except MediaError:
            continue
        # Padding of the header says nothing.
        assert place < header
        expect_equal(found.portrait, portrait)


def test_nothing_is_left_of_a_failure(portrait: PreparedPortrait, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        save_avatar(tmp_path / "no" / "a.avatar", portrait)
    assert list(tmp_path.iterdir()) == []


def test_texts_of_a_file_reach_the_terminal_escaped(portrait: PreparedPortrait, tmp_path: Path) -> None:
    path = save_avatar(tmp_path / "a.avatar", portrait)
    path.write_bytes(changed(path.read_bytes(), {"made_by": "\x1b[2Jnobody\r"}))
    assert "\\x1b[2Jnobody\\r" in describe_avatar(path) and "\x1b" not in describe_avatar(path)
