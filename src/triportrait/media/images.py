"""Pictures: JPEG, PNG and WebP to uint8 arrays, upright and in sRGB, and back to PNG."""

from __future__ import annotations

import io
import os
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps

from triportrait.errors import MediaError, TooLarge
from triportrait.media.files import atomic_file, check_readable

Array = np.ndarray

#: What is decoded at most: 33 megapixels, an 8K frame.
MAX_PIXELS = 33_200_000
_FORMATS = ("JPEG", "PNG", "WEBP")
_NEUTRAL_GREY = (128, 128, 128)


def read_image(path: str | os.PathLike[str]) -> Array:
    """Decode a picture: uint8 RGB [h, w, 3], or RGBA [h, w, 4] when any of its pixels is transparent.

    The EXIF rotation is applied; greyscale, palette, CMYK and 16-bit pictures become 8-bit RGB by scaling, not
    clipping; an embedded colour profile is converted to sRGB; of an animation the first frame is taken. Colours are not
    multiplied by alpha: :func:`composite_over` puts a transparent picture on a ground.

    Raises:
        TooLarge: the header announces more than ``MAX_PIXELS``; nothing is decoded then.
        MediaError: missing, unreadable, no JPEG, PNG or WebP, damaged or cut off.
    """
    absolute = check_readable(path)
    try:
        with absolute.open("rb") as file, warnings.catch_warnings():
            # Pillow's own limit only warns below 179 megapixels; ours is lower and an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _refuse_large(_webp_canvas(file), path)
            with Image.open(file, formats=_FORMATS) as image:
                _refuse_large(image.size, path)
                image.load()
                return _to_array(ImageOps.exif_transpose(_to_srgb(image)))
    except MediaError:
        raise
    except Image.DecompressionBombError:
        raise TooLarge(_too_large(path)) from None
    except Image.UnidentifiedImageError:
        raise MediaError(f"'{path}' is not a picture that is read here; save it as JPEG, PNG or WebP.") from None
    # Decoders of damaged data let almost any exception out (struct.error, SyntaxError, zlib.error, MemoryError, ...).
    except Exception as error:
        raise MediaError(f"'{path}' is a damaged or cut-off picture; export or copy it again.") from error


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
    absolute = check_readable(path)
    try:
        with absolute.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _refuse_large(_webp_canvas(file), path)
            with Image.open(file, formats=_FORMATS) as image:
                _refuse_large(image.size, path)
                width, height = image.size
                # EXIF orientations 5 to 8 swap the axes.
                turned = image.getexif().get(0x0112, 1) >= 5
    except MediaError:
        raise
    except Image.DecompressionBombError:
        raise TooLarge(_too_large(path)) from None
    except Exception as error:
        raise MediaError(f"'{path}' is not a picture that is read here; save it as JPEG, PNG or WebP.") from error
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
            _refuse_large(image.size, name)
            return np.array(image)
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(f"{name} is damaged or no PNG or JPEG; prepare the data again.") from error


def looks_like_image(path: Path) -> bool:
    """Whether the first bytes are those of a JPEG, PNG or WebP."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:3] == b"\xff\xd8\xff" or head[:8] == b"\x89PNG\r\n\x1a\n" or (head[:4], head[8:]) == (b"RIFF", b"WEBP")


def _too_large(path: str | os.PathLike[str]) -> str:
    return f"'{path}' has more than {MAX_PIXELS // 1_000_000} megapixels; scale it down first."


def _refuse_large(size: tuple[int, int], path: str | os.PathLike[str]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise TooLarge(_too_large(path))


def _webp_canvas(file: BinaryIO) -> tuple[int, int]:
    """The canvas of an extended WebP, (0, 0) for anything else: Pillow allocates it before its size can be asked."""
    head = file.read(30)
    file.seek(0)
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X":
        return 0, 0
    width, height = (struct.unpack("<I", head[at : at + 3] + b"\0")[0] + 1 for at in (24, 27))
    return width, height


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert through the embedded colour profile, where there is a sound one; EXIF stays with the picture."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A profile that is damaged or of another colour space: the plain conversion is what viewers do then, too.
        return image
    return image if converted is None else converted


def _to_array(image: Image.Image) -> Array:
    """An upright picture of any mode -> uint8 [h, w, 3 or 4]."""
    if image.mode.startswith(("I", "F")):
        # 16-bit grey (Pillow reads 16-bit colour as 8 bits by itself).
        grey = np.clip(np.asarray(image).astype(np.float32) / 257.0 + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        array = np.array(image.convert("RGBA"))
        return array if (array[..., 3] < 255).any() else np.ascontiguousarray(array[..., :3])
    return np.array(image.convert("RGB"))
