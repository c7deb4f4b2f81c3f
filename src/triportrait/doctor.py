"""What is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from importlib.util import find_spec

_OPENCV = "opencv-python-headless"
_REQUIRED = (
    "numpy",
    "av",
    "soundfile",
    "soxr",
    "pillow",
    "onnxruntime",
    _OPENCV,
    "numba",
    "safetensors",
    "pydantic",
    "tyro",
    "rich",
    "threadpoolctl",
    "c2pa-python",
    "cryptography",
)
#: Other wheels of the same library serve as well; of several that are installed only one is there, whatever pip says.
_OTHER_OPENCVS = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
_OPTIONAL = {
    "torch": "paper",
    "scipy": "paper",
    "lightning": "train",
    "torchmetrics": "eval",
    "openvino": "fast",
    "dlib-bin": "identity",
    "aiortc": "live",
    "pyvirtualcam": "camera",
    "sounddevice": "microphone",
}


def report() -> tuple[list[str], bool]:
    """Lines for a terminal, and whether everything that is needed works."""
    lines, healthy = [f"triportrait {metadata.version('triportrait')}, Python {platform.python_version()}, {platform.platform()}"], True
    for name in _REQUIRED:
        version, fine = _version(name)
        healthy &= fine
        lines.append(f"  {'ok     ' if fine else 'MISSING'} {name} {version}" + ("" if fine else f"; pip install {name}"))
    for name, extra in _OPTIONAL.items():
        version, fine = _version(name)
        hint = "" if fine else f" (only for [{extra}]: pip install 'triportrait[{extra}]')"
        lines.append(f"  {'ok     ' if fine else 'absent '} {name} {version}{hint}")
    lines.append(f"  {_camera()}")
    lines.append(f"cores: {os.cpu_count()}")
    if find_spec("torch"):
        import torch

        devices = ["cpu"] + [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
        lines.append(f"devices: {', '.join(devices)}")
    for what, check in (("face tracker", _tracker), ("open head", _head), ("audio-to-motion weights", _voice)):
        try:
            lines.append(f"  ok      {what}: {check()}")
        except Exception as error:  # a doctor reports whatever is wrong
            healthy = False
            lines.append(f"  BROKEN  {what}: {type(error).__name__}: {error}; reinstall with pip install --force-reinstall triportrait")
    return lines, healthy


def _version(name: str) -> tuple[str, bool]:
    for known in (name, *(_OTHER_OPENCVS if name == _OPENCV else ())):
        try:
            version = metadata.version(known)
        except metadata.PackageNotFoundError:
            continue
        return version if known == name else f"({known} {version})", True
    return "", False


def _camera() -> str:
    from triportrait.media.devices import camera_driver, has_camera_driver

    if has_camera_driver():
        return "ok      virtual camera driver"
    # Beyond Linux only an attempt to show something tells.
    return f"{'absent ' if has_camera_driver() is False else 'unknown'} virtual camera driver; --camera needs {camera_driver()}"


def _tracker() -> str:
    from triportrait.drivers import default_tracker

    return type(default_tracker()).__name__


def _head() -> str:
    from triportrait.drivers import default_head

    head = default_head()
    return f"{len(head.mean)} vertices, {head.identity_size} identity coefficients, {len(head.expression_names)} expressions"


def _voice() -> str:
    from triportrait.motion.voice_graph import load_voice

    voice = load_voice().config
    return f"{len(voice['members'])} networks, {len(voice['curves'])} curves"
