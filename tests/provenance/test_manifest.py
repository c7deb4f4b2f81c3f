"""Content Credentials: signed, read back, and broken by any change."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triportrait.errors import MediaError, MissingPart, OutputError
from triportrait.files import AtomicFile
from triportrait.provenance import manifest
from triportrait.provenance.maker import Account
from triportrait.provenance.manifest import SIDECAR_SUFFIX, VideoSigner, file_sha256, read_manifest, sign_video
from triportrait.provenance.signing import signing_identity

WHEN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HASH = "ab" * 32


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def plain_mp4() -> bytes:
    import av

    file = io.BytesIO()
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.fixture
def video(tmp_path: Path, plain_mp4: bytes) -> Path:
    path = tmp_path / "result.mp4"
    path.write_bytes(plain_mp4)
    return path


def sign(path: Path, **more: Any) -> Path:
    arguments = {"ingredients": {"portrait": HASH}, "title": "Hello", "software": "TriPortrait 0.1.0", "when": WHEN}
    return sign_video(path, **(arguments | more))


def test_signed_is_trusted_here_and_valid_elsewhere(video: Path, tmp_path: Path, home: Path) -> None:
    assert sign(video, watermark_payload=7) == video
    here = read_manifest(video)
    assert here.state == "trusted" and here.is_generated and here.problems == ()
    assert (here.title, here.software, here.watermark_payload) == ("Hello", "TriPortrait 0.1.0", 7)
    assert (here.maker, here.consent) == ("", "")
    assert (here.ingredients, here.when) == ({"portrait": HASH}, "2026-11-20T12:00:00Z")
    elsewhere = read_manifest(video, key_folder=tmp_path / "another computer")
    assert elsewhere.state == "valid" and elsewhere.problems == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == [home.name, video.name]


def test_maker_consent_and_soft_binding_are_signed(video: Path) -> None:
    """Any reader of C2PA sees them; one changed letter of the name breaks the statement."""
    import c2pa

    sign(video, account=Account("Ada Example", "She wrote so."), watermark_payload=0xABCDEF12)
    info = read_manifest(video)
    assert (info.state, info.maker, info.consent) == ("trusted", "Ada Example", "She wrote so.")
    with video.open("rb") as file, c2pa.Reader("video/mp4", file) as reader:
        report = json.loads(reader.json())
    assertions = {entry["label"]: entry["data"] for entry in report["manifests"][report["active_manifest"]]["assertions"]}
    binding = assertions["c2pa.soft-binding"]
    assert binding["alg"] == manifest.SOFT_BINDING_ALGORITHM and binding["blocks"] == [{"scope": {}, "value": "abcdef12"}]
    assert "c2pa.watermarked.bound" in [action["action"] for action in assertions["c2pa.actions.v2"]["actions"]]
    assert assertions[manifest.STATEMENT_LABEL]["maker_number"] == "53E1-79F0"
    video.write_bytes(video.read_bytes().replace(b"Ada Example", b"Eve Example"))
    assert read_manifest(video).state == "invalid"


def test_signed_video_still_decodes(video: Path) -> None:
    import av

    def pixels() -> list[bytes]:
        with av.open(str(video)) as container:
            return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]

    before = pixels()
    sign(video)
    assert pixels() == before


def test_one_changed_byte_is_invalid(video: Path) -> None:
    """Any byte of the sound and picture data, and any of the signed statement itself."""
    sign(video)
    signed = video.read_bytes()
    rng = np.random.default_rng(0)
    media, statement = signed.index(b"mdat") + 4, signed.index(b"TriPortrait 0.1.0")
    assert len(signed) > media + 1000
    for place in [*rng.integers(media, media + 1000, 12), statement]:
        changed = bytearray(signed)
        changed[place] ^= 1
        video.write_bytes(changed)
        info = read_manifest(video)
        assert info.state == "invalid" and info.problems, place
    video.write_bytes(signed)
    assert read_manifest(video).state == "trusted"


def test_unsigned_files_have_none(video: Path, tmp_path: Path) -> None:
    assert read_manifest(video).state == "none"
    for name, content in (("text.mp4", b"xx"), ("empty.mp4", b""), ("clip.webm", b"xx")):
        (tmp_path / name).write_bytes(content)
        assert read_manifest(tmp_path / name).state == "none"
    with pytest.raises(MediaError, match="missing.mp4"):
        read_manifest(tmp_path / "missing.mp4")


def test_home_that_cannot_be_written_still_signs(video: Path, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.write_text("a file where the folder should be")
    sign(video)
    assert "TRIPORTRAIT_HOME" in caplog.text
    assert read_manifest(video, key_folder=home / "signing").state == "valid"


def test_ingredient_files_are_hashed_and_their_manifests_kept(video: Path, tmp_path: Path) -> None:
    driver = tmp_path / "driver.mp4"
    driver.write_bytes(video.read_bytes())
    sign(driver, title="The driver")
    sound = tmp_path / "voice.flac"
    sound.write_bytes(b"any bytes")
    sign(video, ingredients={"driving video": driver, "voice": sound, "portrait": HASH})
    info = read_manifest(video)
    assert info.state == "trusted"
    assert info.ingredients == {
        "driving video": file_sha256(driver),
        "voice": file_sha256(sound),
        "portrait": HASH,
    }
    assert b"The driver" in video.read_bytes()


def test_a_file_that_is_not_what_it_says_is_left_alone(tmp_path: Path, home: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    with pytest.raises(OutputError, match="broken.mp4"):
        sign(broken)
    assert broken.read_bytes() == b"not a video"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.mp4", home.name]
    with pytest.raises(MediaError, match="missing.mp4"):
        sign(tmp_path / "missing.mp4")


def test_mode_of_the_file_is_kept(video: Path) -> None:
    os.chmod(video, 0o640)
    sign(video)
    assert stat.S_IMODE(video.stat().st_mode) == 0o640


def test_other_containers_get_a_note_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"
    path.write_bytes(b"frames")
    note = sign(path, watermark_payload=7, account=Account("Ada Example", "She wrote so."))
    assert note == tmp_path / f"clip.webm{SIDECAR_SUFFIX}"
    info = read_manifest(path)
    assert info.state == "unsigned" and info.is_generated
    assert (info.maker, info.consent, info.watermark_payload) == ("Ada Example", "She wrote so.", 7)
    assert (info.title, info.software, info.ingredients) == ("Hello", "TriPortrait 0.1.0", {"portrait": HASH})
    path.write_bytes(b"Frames")
    assert read_manifest(path).state == "invalid"
    for text in ("", "[]", "{}", json.dumps({"file_sha256": 3})):
        note.write_text(text)
        assert read_manifest(path).state == "invalid"


def test_without_c2pa(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = video.with_name("signed.mp4")
    signed.write_bytes(video.read_bytes())
    sign(signed)
    monkeypatch.setattr(builtins, "__import__", without("c2pa", builtins.__import__))
    before = video.read_bytes()
    note = sign(video)
    assert note.name == f"result.mp4{SIDECAR_SUFFIX}" and video.read_bytes() == before
    assert read_manifest(video).state == "unsigned"
    with pytest.raises(MissingPart, match="pip install c2pa-python"):
        read_manifest(signed)


# -- a video is never lost over its signature ----------------------------------------------------------------------------


def deliver(path: Path, video: Path) -> Path:
    """Make a video as performances do: the trial first, the statement before it takes its name."""
    signer = VideoSigner(path, {"portrait": video}, path.name, "TriPortrait 0.1.0")
    output = AtomicFile(path)
    output.part.write_bytes(video.read_bytes())
    signer.sign(output.part, 7)
    output.commit()
    signer.note_beside()
    return path


def test_a_video_that_can_be_signed_is(video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    info = read_manifest(deliver(tmp_path / "new.mp4", video))
    assert info.state == "trusted" and info.watermark_payload == 7 and info.ingredients == {"portrait": file_sha256(video)}
    assert caplog.records == [] and not list(tmp_path.glob("*.json")) and not list(tmp_path.glob(".*"))


class Clock(datetime):
    """Says what ``year`` says."""

    year_now = 2026

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime(cls.year_now, 1, 1, tzinfo=tz)


@pytest.mark.parametrize("fault", ["no library", "broken library", "half a key", "nonsense for a key", "clock behind", "clock ahead"])
def test_what_keeps_it_from_being_signed_is_known_first(
    fault: str, video: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if fault == "no library":
        monkeypatch.setattr(builtins, "__import__", without("c2pa", builtins.__import__))
    elif fault == "broken library":
        import c2pa

        def broken(*_: Any, **__: Any) -> None:
            raise AttributeError("undefined symbol: c2pa_builder_sign")

        monkeypatch.setattr(c2pa, "Builder", broken)
    elif fault == "half a key":
        signing_identity()
        (home / "signing" / "chain.pem").unlink()
    elif fault == "nonsense for a key":
        signing_identity()
        (home / "signing" / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    else:
        signing_identity()
        monkeypatch.setattr(Clock, "year_now", 1970 if fault == "clock behind" else 2190)
        monkeypatch.setattr(manifest, "datetime", Clock)
    path = tmp_path / "new.mp4"
    VideoSigner(path, {}, path.name, "TriPortrait 0.1.0")
    assert len(caplog.records) == 1 and "will not be signed" in caplog.text
    caplog.clear()
    assert deliver(path, video).read_bytes() == video.read_bytes()
    assert len(caplog.records) == 1
    assert read_manifest(path).state == "unsigned"


@pytest.mark.parametrize("fault", ["disk", "library", "ingredient"])
def test_what_goes_wrong_late_is_one_warning(
    fault: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = tmp_path / "driver.mp4"
    source.write_bytes(video.read_bytes())
    path = tmp_path / "new.mp4"
    signer = VideoSigner(path, {"driving video": source}, path.name, "TriPortrait 0.1.0")
    assert caplog.records == []
    path.write_bytes(video.read_bytes())
    if fault == "disk":
        monkeypatch.setattr(manifest, "atomic_file", full)
    elif fault == "library":
        monkeypatch.setattr(manifest, "_sign_stream", full)
    else:
        source.unlink()  # while the video was made; its hash was taken before
    signer.sign(path)
    signer.note_beside()
    state = {"disk": "none", "library": "unsigned", "ingredient": "trusted"}[fault]
    assert read_manifest(path).state == state and len(caplog.records) == (state != "trusted")
    assert not list(tmp_path.glob(".*"))


def test_a_name_that_is_no_text_is_signed(video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (b"\xff.mp4", b"caf\xe9.mp4"):
        assert read_manifest(deliver(tmp_path / os.fsdecode(name), video)).state == "trusted"
    assert caplog.records == []


def without(missing: str, importer: Callable[..., Any]) -> Callable[..., Any]:
    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ImportError(name)
        return importer(name, *rest, **more)

    return importing


def test_a_statement_of_odd_kinds_is_read_without_a_fault() -> None:
    """Whoever signs writes what they like: a number for a name, a list for a statement."""
    from triportrait.provenance.maker import maker_number
    from triportrait.provenance.manifest import STATEMENT_LABEL, _from_report

    for statement in ({"maker": 5, "ingredients": [1], "consent": None}, "text", [1, 2], None):
        assertions = [{"label": STATEMENT_LABEL, "data": statement}, {"label": "c2pa.actions.v2", "data": statement}]
        info = _from_report({"active_manifest": "a", "manifests": {"a": {"assertions": assertions}}}, "Valid")
        assert info.state == "valid" and isinstance(info.maker, str) and info.ingredients == {}
    assert maker_number("\ud800") > 0
