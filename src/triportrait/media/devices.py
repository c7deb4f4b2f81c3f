"""Cameras and sound devices of this machine: a webcam's pictures, a virtual camera, a microphone, a loudspeaker.

The packages behind them are extras; who misses one is told which.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from triportrait.errors import MediaError, MissingPart
from triportrait.types import Array

#: System -> what makes a virtual camera there.
_DRIVERS = {
    "Linux": (
        "v4l2loopback; sudo apt install v4l2loopback-dkms && sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label=TriPortrait"
    ),
    "Windows": "OBS Studio, which brings a virtual camera; install it from https://obsproject.com",
    "Darwin": "OBS Studio; install it from https://obsproject.com and start its virtual camera once",
}
#: Pictures that a webcam may fail to give in a row.
_MOST_MISSES = 50
_BLOCK_S = 0.04


def camera_driver() -> str:
    """What makes a virtual camera on this system, and how to get it."""
    return _DRIVERS.get(platform.system(), "no driver is known for this system")


def has_camera_driver() -> bool | None:
    """Whether the driver of virtual cameras is there; None where only trying tells."""
    if platform.system() != "Linux":
        return None
    return any(Path("/sys/devices/virtual/video4linux").glob("video*"))


@contextmanager
def virtual_camera(side_px: int, fps: float) -> Iterator[Callable[[Array], None]]:
    """A camera that other programs see; its block is given a function that shows uint8 [side, side, 3].

    Raises:
        MissingPart: the package or the system's driver is missing.
    """
    import pyvirtualcam

    try:
        camera = pyvirtualcam.Camera(side_px, side_px, round(fps), fmt=pyvirtualcam.PixelFormat.RGB)
    except RuntimeError as error:
        raise MissingPart(f"there is no virtual camera ({str(error).splitlines()[-1]}); it takes {camera_driver()}") from None
    with camera:
        yield camera.send


def webcam(number: int) -> Iterator[Array]:
    """Pictures uint8 [h, w, 3] RGB of a webcam, as they come, for ever.

    Raises:
        MediaError: there is no such webcam, another program has it, or it is gone.
    """
    import cv2

    device = cv2.VideoCapture(number)
    try:
        if not device.isOpened():
            raise MediaError(f"webcam {number} cannot be opened; close the program that uses it, or give the number of another")
        misses = 0
        while misses < _MOST_MISSES:
            is_there, picture = device.read()
            misses = 0 if is_there else misses + 1
            if is_there:
                yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        raise MediaError(f"webcam {number} gives no more pictures; plug it in and start again")
    finally:
        device.release()


@contextmanager
def microphone(rate_hz: int, hear: Callable[[Array], None]) -> Iterator[None]:
    """While its block runs, the default microphone's sound goes to ``hear`` in blocks float32 [n], from a thread of its own.

    Raises:
        MissingPart: the package is missing.
        MediaError: there is no microphone.
    """
    import sounddevice

    try:
        stream = sounddevice.InputStream(
            rate_hz, round(_BLOCK_S * rate_hz), channels=1, dtype="float32", callback=lambda data, *_: hear(np.array(data[:, 0]))
        )
    except sounddevice.PortAudioError as error:
        raise MediaError(f"there is no microphone ({error}); plug one in and allow this program to use it") from None
    with stream:
        yield


@contextmanager
def loudspeaker(rate_hz: int, name: str | None = None) -> Iterator[Callable[[Array], None]]:
    """Plays sound; its block is given a function that takes blocks float32 [n].

    Args:
        rate_hz: samples per second.
        name: of the device, or a part of it; None is the default.

    Raises:
        MissingPart: the package is missing.
        MediaError: there is no such device.
    """
    import sounddevice

    try:
        stream = sounddevice.OutputStream(rate_hz, channels=1, dtype="float32", device=name)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise MediaError(f"there is no loudspeaker {name or ''} ({error}); python -m sounddevice lists them") from None
    with stream:
        yield lambda samples: stream.write(samples[:, None])
