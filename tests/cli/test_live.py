"""``triportrait live`` and ``stream``: to a camera that is made up, and to receivers on this machine."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from triportrait.cli import main
from triportrait.media import devices
from triportrait.motion.files import write_motion
from triportrait.pipeline import Portrait


class Camera:
    """As much of pyvirtualcam as is used, with what was shown."""

    shown: list[np.ndarray] = []

    def __init__(self, width: int, height: int, fps: float, *, fmt: str) -> None:
        assert fps == 25 and fmt == "rgb"
        self.size = height, width, 3

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *error: object) -> None: ...

    def send(self, picture: np.ndarray) -> None:
        assert picture.shape == self.size and picture.dtype == np.uint8
        self.shown.append(picture)


@pytest.fixture
def avatar(talking_portrait: Portrait, tmp_path: Path) -> Path:
    return talking_portrait.save(tmp_path / "astronaut.avatar")


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(5.0)
        yield listener


def test_a_camera_and_a_receiver_get_a_portrait_that_speaks(
    avatar: Path, voice: Path, receiver: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = SimpleNamespace(Camera=Camera, PixelFormat=SimpleNamespace(RGB="rgb"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", made_up)
    Camera.shown.clear()
    port = receiver.getsockname()[1]
    arguments = ["live", str(avatar), "--camera", "--live-link", f"127.0.0.1:{port}", "--voice", str(voice), "--seconds", "1.2"]
    assert main(arguments) == 0
    packets = [receiver.recv(2048) for _ in range(30)]
    jaw = [np.frombuffer(packet[-244:], ">f4")[17] for packet in packets]
    assert max(jaw) > 0.05 and len(Camera.shown) > 3
    assert np.abs(Camera.shown[-1].astype(int) - Camera.shown[0]).max() > 20


def test_a_webcam_is_followed_and_its_end_is_told(
    avatar: Path, clip: Path, receiver: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from triportrait.errors import MediaError
    from triportrait.live.session import LiveSession

    looked: list[bool] = []
    look = LiveSession.push_frame
    monkeypatch.setattr(LiveSession, "push_frame", lambda session, picture: looked.append(look(session, picture)))

    def webcam(number: int) -> Iterator[np.ndarray]:
        from triportrait.media.video import VideoReader

        assert number == 3
        with VideoReader(clip) as reader:
            yield from (picture for _, picture in reader.frames(25.0))
        raise MediaError("webcam 3 gives no more pictures; plug it in and start again")

    monkeypatch.setattr(devices, "webcam", webcam)
    code = main(["live", str(avatar), "--webcam", "3", "--vmc", f"127.0.0.1:{receiver.getsockname()[1]}", "--seconds", "60"])
    assert code == MediaError.exit_code and "plug it in" in capsys.readouterr().err
    assert len(looked) == 25 and all(looked) and receiver.recv(4096).startswith(b"#bundle")


def test_a_motion_file_is_sent_row_by_row(talking_portrait: Portrait, voice: Path, receiver: socket.socket, tmp_path: Path) -> None:
    motion = talking_portrait.talk(voice).motion().rows(slice(0, 8))
    write_motion([motion], tmp_path / "motion.npz")
    assert main(["stream", str(tmp_path / "motion.npz"), "--live-link", f"127.0.0.1:{receiver.getsockname()[1]}", "--times", "2"]) == 0
    frames = [int.from_bytes(packet[56:60], "big") for packet in (receiver.recv(2048) for _ in range(16))]
    assert frames == list(range(16))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --camera, --live-link or --vmc"),
        (["--camera", "--microphone", "--voice", "a.wav"], "give one of them"),
        (["--vmc", "nobody:port"], "which is no address"),
        (["--camera"], "pip install 'triportrait[camera]'"),
    ],
)
def test_what_is_missing_is_one_sentence(
    avatar: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    assert main(["live", str(avatar), *arguments]) != 0
    assert said in capsys.readouterr().err


def test_a_missing_driver_is_named(avatar: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from triportrait.doctor import report

    def no_camera(*settings: object, **more: object) -> None:
        raise RuntimeError("'v4l2loopback' backend: No v4l2loopback device found")

    made_up = SimpleNamespace(Camera=no_camera, PixelFormat=SimpleNamespace(RGB="rgb"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", made_up)
    monkeypatch.setattr(devices.platform, "system", lambda: "Linux")
    assert main(["live", str(avatar), "--camera"]) != 0
    assert "modprobe v4l2loopback" in capsys.readouterr().err
    for system, name in (("Linux", "v4l2loopback"), ("Windows", "OBS"), ("Darwin", "OBS")):
        monkeypatch.setattr(devices, "has_camera_driver", lambda: False)
        monkeypatch.setattr(devices.platform, "system", lambda system=system: system)
        assert any("virtual camera driver" in line and name in line for line in report()[0])


def test_the_amount_of_head_motion_is_a_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is read as a number; what is wrong with this line is the missing photo alone."""
    assert main(["live", str(tmp_path / "nobody.jpg"), "--camera", "--head-motion", "0.5"]) == 2
    assert "nobody.jpg" in capsys.readouterr().err
