"""Pictures: JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF and HEIC to uint8 arrays, upright and in sRGB, and back to PNG."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin

from triportrait.errors import MediaError, MissingPart, TooLarge
from triportrait.files import atomic_file, check_readable
from triportrait.types import Array

logger = logging.getLogger(__name__)

#: What is handed on at most: 33 megapixels, an 8K frame. Larger pictures are scaled down while they are read.
MAX_PIXELS = 33_200_000
#: What is read at most. JPEG is scaled down inside its decoder, so that even the 200 megapixels of a phone need little memory;
#: progressive JPEG keeps three bytes a pixel there, other formats are decoded whole, with four bytes a pixel.
MAX_JPEG_PIXELS, MAX_PROGRESSIVE_PIXELS, MAX_OTHER_PIXELS = 256_000_000, 66_000_000, 66_000_000
#: A larger file is no photograph; some decoders read it whole.
_LARGEST_BYTES = 512 << 20
#: Formats that Pillow's own door opens, and what a sentence calls them; JPEG has a door of its own, and HEIC needs a plug-in.
_FORMATS = {"PNG": "PNG", "WEBP": "WebP", "AVIF": "AVIF", "TIFF": "TIFF", "BMP": "BMP", "GIF": "GIF"}
_FORMAT_NAMES = " or ".join(", ".join(("JPEG", *_FORMATS.values())).rsplit(", ", 1))
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_NEUTRAL_GREY = (128, 128, 128)
#: Rows are converted in strips of this many pixels.
_STRIP_PIXELS = 1 << 20
#: EXIF orientation -> (transpose first, flip rows, flip columns).
_ORIENTATIONS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def read_image(path: str | os.PathLike[str]) -> Array:
    """Decode a picture: uint8 RGB [h, w, 3], or RGBA [h, w, 4] when any of its pixels is transparent.

    The EXIF rotation is applied; greyscale, palette, CMYK, 16-bit and floating-point pictures become 8-bit RGB by scaling, not
    clipping; an embedded colour profile is converted to sRGB; of an animation the first frame is taken. A picture of more than
    ``MAX_PIXELS`` is scaled down by a whole number, with a warning. Colours are not multiplied by alpha:
    :func:`composite_over` puts a transparent picture on a ground.

    Raises:
        TooLarge: the header announces more than is read (``MAX_JPEG_PIXELS``, ``MAX_OTHER_PIXELS``); nothing is decoded then.
        MissingPart: HEIC, and pillow-heif is not installed.
        MediaError: missing, unreadable, of another format, damaged or cut off, or with values that are not numbers.
    """
    with _opened(path) as image:
        announced = image.size
        factor = 1
        while -(-announced[0] // factor) * -(-announced[1] // factor) > MAX_PIXELS:
            factor *= 2
        if isinstance(image, JpegImagePlugin.JpegImageFile) and factor > 1:
            image.draft(image.mode, (announced[0] // factor, announced[1] // factor))
            factor = 1
        image.load()
        # After loading: Pillow turns TIFF itself and takes the entry out.
        orientation = image.getexif().get(_ORIENTATION, 1)
        array = _turned(_to_array(_to_srgb(image), factor, path), orientation)
    if array.shape[0] * array.shape[1] < announced[0] * announced[1]:
        logger.warning(
            "'%s' has %d megapixels; it was scaled down to %d x %d.",
            path,
            announced[0] * announced[1] // 1_000_000,
            array.shape[1],
            array.shape[0],
        )
    return array


def picture_frames(path: str | os.PathLike[str], limit: int) -> Iterator[Array]:
    """The frames of an animation (GIF, WebP, PNG), at most ``limit`` of them, evenly spread, or the one of a picture: uint8 RGB [h, w, 3].

    Transparent places show grey. An animation's memory does not grow with its length.

    Raises:
        MediaError: as :func:`read_image`.
    """
    with _opened(path) as image:
        count = getattr(image, "n_frames", 1)
        moves = getattr(image, "is_animated", False)
        for index in range(0, count if moves else 0, -(-count // limit)):
            image.seek(index)
            yield composite_over(np.asarray(image.convert("RGBA")))
    if not moves:
        yield composite_over(read_image(path))


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A picture whose header was read and whose size is within the limits; whatever its decoder raises becomes one sentence."""
    absolute = check_readable(path)
    try:
        if absolute.stat().st_size > _LARGEST_BYTES:
            raise TooLarge(f"'{path}' has more than {_LARGEST_BYTES >> 20} MB, which no photo has; save it as JPEG first.")
        # Python's filter of warnings belongs to the whole process and is left alone: other threads read pictures, too.
        with absolute.open("rb") as file:
            head = file.read(64)
            file.seek(0)
            if head[:3] == b"\xff\xd8\xff":
                # Pillow's own door refuses 179 megapixels, whatever the decoder makes of them.
                opened: Image.Image = JpegImagePlugin.jpeg_factory(file)
                limit = MAX_PROGRESSIVE_PIXELS if opened.info.get("progressive") else MAX_JPEG_PIXELS
            else:
                limit = MAX_OTHER_PIXELS
                _refuse_large(_webp_canvas(file), limit, path)
                opened = Image.open(file, formats=_heif_formats(path) if _is_heic(head) else tuple(_FORMATS))
            with opened as image:
                _refuse_large(image.size, limit, path)
                yield image
    except (MediaError, MissingPart):
        raise
    except Image.DecompressionBombError:
        raise TooLarge(_too_large(MAX_OTHER_PIXELS, path)) from None
    except Image.UnidentifiedImageError:
        raise MediaError(f"'{path}' is not a picture that is read here; save it as {_FORMAT_NAMES}.") from None
    # Decoders of damaged data let almost any exception out (struct.error, SyntaxError, zlib.error, MemoryError, ...).
    except Exception as error:
        raise MediaError(f"'{path}' is a damaged or cut-off picture; export or copy it again.") from error


def _is_heic(head: bytes) -> bool:
    # The general brands may stand before AVIF's own.
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and not any(brand in head for brand in _AVIF_BRANDS)


def _heif_formats(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """HEIF, once the plug-in is there."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise MissingPart(
            f"'{path}' is a HEIC picture, which needs a plug-in: pip install 'triportrait[heic]'; or save it as JPEG."
        ) from None
    register_heif_opener(thumbnails=False)
    return ("HEIF",)


def composite_over(image: Array, colour: tuple[int, int, int] = _NEUTRAL_GREY) -> Array:
    """Put uint8 RGBA [h, w, 4] on a plain ground -> uint8 RGB [h, w, 3]; RGB [h, w, 3] passes unchanged."""
    if image.shape[-1] == 3:
        return image
    alpha = image[..., 3:].astype(np.float32) / 255.0
    mixed = image[..., :3] * alpha + np.asarray(colour, np.float32) * (1.0 - alpha)
    return (mixed + 0.5).astype(np.uint8)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) in pixels of the upright picture, from the header alone.

    Raises:
        MediaError: as :func:`read_image`, as far as the header shows it.
    """
    with _opened(path) as image:
        width, height = image.size
        # EXIF orientations 5 to 8 swap the axes; of TIFF Pillow gives the upright size.
        turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) >= 5
    return (height, width) if turned else (width, height)


def write_png(path: str | os.PathLike[str], image: Array) -> None:
    """Write uint8 [h, w], [h, w, 3] or [h, w, 4] as PNG; the file appears whole or not at all.

    Raises:
        OutputError: the target cannot be written.
        ValueError: the array is not a picture of one of these shapes.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise ValueError(f"image is {image.dtype} {image.shape}, expected uint8 [h, w], [h, w, 3] or [h, w, 4]")
    with atomic_file(path) as part:
        Image.fromarray(np.ascontiguousarray(image)).save(part, format="PNG")


def picture_to_bytes(image: Array, quality: int | None = None) -> bytes:
    """Encode uint8 [h, w] or RGB [h, w, 3] for a data shard: PNG, or JPEG without colour subsampling at ``quality``."""
    stream = io.BytesIO()
    if quality is None:
        Image.fromarray(image).save(stream, "PNG", compress_level=4)
    else:
        Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


def picture_from_bytes(data: bytes, name: str = "a picture in the shard") -> Array:
    """The inverse of :func:`picture_to_bytes`.

    Raises:
        MediaError: neither PNG nor JPEG, or damaged; ``name`` says which.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            _refuse_large(image.size, MAX_PIXELS, name)
            return np.array(image)
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(f"{name} is damaged or no PNG or JPEG; prepare the data again.") from error


def looks_like_image(path: Path) -> bool:
    """Whether the first bytes are those of a picture of a format on the list, or of HEIC."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return head[8:12] in (*_HEIC_BRANDS, *_AVIF_BRANDS)
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")) or (
        (head[:4], head[8:]) == (b"RIFF", b"WEBP")
    )


def _too_large(limit: int, path: str | os.PathLike[str]) -> str:
    return f"'{path}' has more than {limit // 1_000_000} megapixels; scale it down first, or save it as an ordinary JPEG."


def _refuse_large(size: tuple[int, int], limit: int, path: str | os.PathLike[str]) -> None:
    if size[0] * size[1] > limit:
        raise TooLarge(_too_large(limit, path))


def _webp_canvas(file: BinaryIO) -> tuple[int, int]:
    """The canvas of an extended WebP, (0, 0) for anything else: Pillow allocates it before its size can be asked."""
    head = file.read(30)
    file.seek(0)
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X":
        return 0, 0
    width, height = (struct.unpack("<I", head[at : at + 3] + b"\0")[0] + 1 for at in (24, 27))
    return width, height


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert through the embedded colour profile, where there is a sound one; in place where the mode stays."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    try:
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        if image.mode == "CMYK":
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
        ImageCms.profileToProfile(image, source, target, inPlace=True)
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A profile that is damaged or of another colour space: the plain conversion is what viewers do then, too.
        return image
    return image


_ORIENTATION = 0x0112


def _turned(array: Array, orientation: int) -> Array:
    """A picture [h, w, c] as its EXIF orientation shows it."""
    if orientation not in _ORIENTATIONS:
        return array
    transpose, rows, columns = _ORIENTATIONS[orientation]
    array = array.transpose(1, 0, 2) if transpose else array
    array = array[::-1] if rows else array
    return np.ascontiguousarray(array[:, ::-1] if columns else array)


def _to_array(image: Image.Image, factor: int, path: str | os.PathLike[str]) -> Array:
    """A loaded picture of any mode -> uint8 [h, w, 3 or 4], smaller by ``factor``; strip by strip, as Pillow copies at every step."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // (width * factor)) * factor
    starts = range(0, height, rows)

    def strip(start: int, mode: str) -> Array:
        part = image.crop((0, start, width, min(start + rows, height)))
        if image.mode.startswith(("I", "F")):
            values = np.asarray(part).astype(np.float32)
            if not np.isfinite(values).all():
                raise MediaError(f"'{path}' holds values that are not numbers (NaN or infinity); export it again.")
            part = Image.fromarray(np.clip(values * scale + 0.5, 0, 255).astype(np.uint8))
        part = part if part.mode == mode else part.convert(mode)
        return np.asarray(part.reduce(factor) if factor > 1 else part)

    scale = _grey_scale(image)
    mode = "RGB"
    if "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        mode = "RGBA" if any((strip(start, "RGBA")[..., 3] < 255).any() for start in starts) else "RGB"
    array = np.empty((-(-height // factor), -(-width // factor), len(mode)), np.uint8)
    for start in starts:
        piece = strip(start, mode)
        array[start // factor : start // factor + len(piece)] = piece
    return array


def _grey_scale(image: Image.Image) -> float:
    """What brings a picture of one wide channel to 0..255: whole numbers have 16 bits; floating point may count in ones or in bytes."""
    if image.mode == "F":
        _, highest = image.getextrema()
        assert isinstance(highest, float), "a picture of one channel has one pair"
        return 255.0 if highest <= 1.0 else 1.0 if highest <= 255.0 else 1 / 257.0
    return 1 / 257.0
