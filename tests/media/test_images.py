"""Pictures in all their kinds, and the files that only pretend to be pictures."""

from __future__ import annotations

import io
import resource
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from triportrait.errors import MediaError, MissingPart, OutputError, TooLarge
from triportrait.media import images
from triportrait.media.images import composite_over, image_size, read_image, write_png

RAMP = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(32, 0)


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and carries a few bytes of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["plain.png", "mit Leerzeichen und Ümläut.png", "人像 照片.png"])
def test_png_round_trip(tmp_path: Path, astronaut: np.ndarray, name: str) -> None:
    write_png(tmp_path / name, astronaut)
    np.testing.assert_array_equal(read_image(tmp_path / name), astronaut)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, astronaut: np.ndarray, orientation: int) -> None:
    upright = Image.fromarray(astronaut[:128, :256])
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.asarray(upright))
    assert image_size(tmp_path / "turned.png") == (256, 128)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "deep.png")
    image = read_image(tmp_path / "deep.png")
    assert image.shape == (32, 64, 3)
    np.testing.assert_allclose(image[..., 0], RAMP / 257.0, atol=0.51)
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_few_colours_become_rgb(tmp_path: Path, astronaut: np.ndarray, mode: str) -> None:
    stored = Image.fromarray(astronaut).convert(mode)
    stored.save(tmp_path / "small.png")
    np.testing.assert_array_equal(read_image(tmp_path / "small.png"), np.asarray(stored.convert("RGB")))


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    image = read_image(tmp_path / "print.jpg")
    assert image.shape == (16, 32, 3)
    np.testing.assert_allclose(image.reshape(-1, 3).mean(0), [255, 0, 0], atol=6)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_the_fourth_channel(tmp_path: Path, mode: str) -> None:
    fill = (200, 100, 50, 64) if mode == "RGBA" else (200, 64)
    Image.new(mode, (8, 8), fill).save(tmp_path / "clear.png")
    image = read_image(tmp_path / "clear.png")
    assert image.shape == (8, 8, 4) and (image[..., 3] == 64).all()
    expected = np.round(np.asarray(image[0, 0, :3]) * (64 / 255) + 128 * (191 / 255))
    np.testing.assert_allclose(composite_over(image)[0, 0], expected, atol=1)


def test_opaque_alpha_is_dropped_and_transparent_palette_kept(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (1, 2, 3, 255)).save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png").shape == (8, 8, 3)
    palette = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P")
    palette.save(tmp_path / "palette.png", transparency=5)
    alpha = read_image(tmp_path / "palette.png")[..., 3]
    assert alpha.reshape(-1)[5] == 0 and (alpha == 255).sum() == 63


def test_colour_profile_is_converted(tmp_path: Path) -> None:
    """Of an sRGB profile with red's and blue's primaries exchanged, what is stored as red is to come out as blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = profile.replace(b"rXYZ", b"tmp!", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"tmp!", b"bXYZ", 1)
    stored = Image.new("RGB", (8, 8), (220, 60, 30))
    for name, icc, expected in [
        ("plain.png", profile, (220, 60, 30)),
        ("exchanged.png", exchanged, (30, 60, 220)),
        ("broken.png", b"not a profile", (220, 60, 30)),
    ]:
        stored.save(tmp_path / name, icc_profile=icc)
        np.testing.assert_allclose(read_image(tmp_path / name)[0, 0], expected, atol=3)


def test_webp_and_jpeg(tmp_path: Path, astronaut: np.ndarray) -> None:
    for name in ("a.webp", "a.jpg"):
        Image.fromarray(astronaut).save(tmp_path / name, quality=95)
        assert np.abs(read_image(tmp_path / name).astype(int) - astronaut).mean() < 4


@pytest.mark.parametrize("content", ["png", "webp"])
def test_header_bomb_is_refused_without_decoding(tmp_path: Path, content: str) -> None:
    bomb = tmp_path / f"bomb.{content}"
    if content == "png":
        bomb.write_bytes(png_header(20_000, 20_000))
    else:
        size = struct.pack("<I", 16_383 - 1)[:3]
        chunk = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size + size
        bomb.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge, match="66 megapixels"):
        read_image(bomb)
    with pytest.raises(TooLarge):
        image_size(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_size_just_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png_header(8_125, 8_125))
    with pytest.raises(TooLarge):
        read_image(tmp_path / "large.png")


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "RGB"), ("a.png", "RGB"), ("b.png", "RGBA"), ("c.png", "L"), ("a.tiff", "F")])
def test_large_pictures_are_scaled_down_as_they_are_read(tmp_path: Path, astronaut: np.ndarray, monkeypatch, caplog, name, mode) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 20_000)
    picture = Image.fromarray(astronaut[:300, :401]).convert(mode)
    if mode == "RGBA":
        picture.putpixel((0, 0), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / name, exif=exif, **({"quality": 95} if name.endswith("jpg") else {}))
    read = read_image(tmp_path / name)
    assert image_size(tmp_path / name) == (300, 401) and read.shape[:2] == (101, 75) and "scaled down to 75 x 101" in caplog.text
    expected = np.rot90(np.asarray(picture.convert("RGB").reduce(4)), -1)
    assert np.abs(read[..., :3].astype(int) - expected).mean() < 3


@pytest.mark.parametrize("rows", [1 << 20, 700])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "CMYK"])
def test_strips_give_what_the_whole_gives(astronaut: np.ndarray, monkeypatch, rows: int, mode: str) -> None:
    monkeypatch.setattr(images, "_STRIP_PIXELS", rows)
    picture = Image.fromarray(astronaut[:130, :97]).convert(mode)
    np.testing.assert_array_equal(images._to_array(picture, 1, "x"), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("ending", ["avif", "tiff", "bmp", "gif"])
def test_further_formats(tmp_path: Path, astronaut: np.ndarray, ending: str) -> None:
    path = tmp_path / f"photo.{ending}"
    Image.fromarray(astronaut[:128]).save(path)
    read = read_image(path)
    assert np.abs(read.astype(int) - astronaut[:128]).mean() < (12 if ending == "gif" else 4)
    assert images.looks_like_image(path) and image_size(path) == (512, 128)


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif") == (255, 0, 0)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pictures_of_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    picture = np.full((40, 30), 0.5, np.float32)
    Image.fromarray(picture).save(tmp_path / "a.tiff")
    assert np.abs(read_image(tmp_path / "a.tiff").astype(int) - 128).max() <= 1
    picture[7, 5] = value
    Image.fromarray(picture).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match="NaN or infinity"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_without_its_plug_in_says_how_to_get_it(tmp_path: Path, monkeypatch, brand: bytes) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(100))
    with pytest.raises(MissingPart, match=r"pip install 'triportrait\[heic\]'"):
        read_image(tmp_path / "a.heic")


def test_a_phones_photo_is_read(shared: Path) -> None:
    assert read_image(shared / "cases" / "phone_48mp.jpg").shape == (4032, 3000, 3)


@pytest.mark.parametrize("kind", ["text", "ico", "truncated", "empty", "missing", "folder", "below a file"])
def test_what_is_no_picture_is_one_sentence(tmp_path: Path, astronaut: np.ndarray, kind: str) -> None:
    path = tmp_path / "bild ü.jpg"
    if kind == "text":
        path.write_text("#!/bin/sh\necho hello\n")
    elif kind == "ico":
        Image.fromarray(astronaut).save(path, format="ICO")
    elif kind == "truncated":
        whole = io.BytesIO()
        Image.fromarray(astronaut).save(whole, format="JPEG")
        path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "below a file":
        path.write_text("x")
        path = path / "photo.png"
    with pytest.raises(MediaError) as caught:
        read_image(path)
    text = str(caught.value)
    assert str(path) in text and text.endswith(".") and "\n" not in text and len(text) < 120 + len(str(path))


@pytest.mark.parametrize("seed_number", range(40))
def test_mutated_pictures_never_raise_anything_else(tmp_path: Path, astronaut: np.ndarray, seed_number: int) -> None:
    random = np.random.default_rng(seed_number)
    whole = io.BytesIO()
    Image.fromarray(astronaut[:64, :64]).save(whole, format=("PNG", "JPEG", "WEBP")[seed_number % 3])
    data = np.frombuffer(whole.getvalue(), np.uint8).copy()
    places = random.integers(0, min(len(data), 600), 8)
    data[places] = random.integers(0, 256, 8)
    (tmp_path / "mutant").write_bytes(data.tobytes())
    try:
        image = read_image(tmp_path / "mutant")
    except MediaError:
        return
    assert image.dtype == np.uint8 and image.ndim == 3


def test_write_png_refuses_what_cannot_be(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(OutputError, match="no folder"):
        write_png(tmp_path / "missing" / "a.png", image)
    with pytest.raises(ValueError, match="expected uint8"):
        write_png(tmp_path / "a.png", image.astype(np.float32))
    assert not list(tmp_path.iterdir())
