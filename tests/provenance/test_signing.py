"""This installation's key: private, whole, and made once."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from triportrait.errors import OutputError
from triportrait.provenance.signing import signing_identity, user_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(folder))
    return folder


def test_keys_are_private_and_stay(home: Path) -> None:
    signing_identity()
    key = home / "signing" / "key.pem"
    before = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert b"PRIVATE" not in (home / "signing" / "chain.pem").read_bytes()
    assert signing_identity().key == before
    assert "PRIVATE" not in repr(signing_identity())


def test_processes_that_start_together_share_one_key(home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        identities = list(pool.map(lambda _: signing_identity(), range(16)))
    assert len({identity.key for identity in identities if identity}) == 1
    assert [path.name for path in home.iterdir()] == ["signing"]


@pytest.mark.parametrize("stored", [False, True])
def test_a_key_that_a_killed_run_left_goes(stored: bool, home: Path) -> None:
    """A run of this version is known to be over; one of a former version counts as over after a day."""
    if stored:
        signing_identity()
    kill = "import os; os.fsync = lambda _: os.kill(os.getpid(), 9); from triportrait.provenance import signing as s; "
    kill += f"from pathlib import Path; s._store_identity(s.SigningIdentity(b'key', b'', b''), Path({str(home / 'signing')!r}))"
    assert subprocess.run([sys.executable, "-c", kill]).returncode == -signal.SIGKILL
    for name in (".signing.abcd_123", ".signing.efgh4567", ".signing.backups"):
        (home / name).mkdir(parents=True)
        (home / name / "key.pem").write_text("key")
    os.utime(home / ".signing.abcd_123", (0, 0))
    (left,) = home.glob(".triportrait-part-*")
    assert (left / "key.pem").read_text() == "key"
    signing_identity()
    assert sorted(path.name for path in home.iterdir()) == [".signing.backups", ".signing.efgh4567", "signing"]


def test_user_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRIPORTRAIT_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "triportrait"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert user_folder() == Path.home() / ".config" / "triportrait"


def test_incomplete_keys_are_an_error(home: Path) -> None:
    signing_identity()
    (home / "signing" / "chain.pem").unlink()
    with pytest.raises(OutputError, match="chain.pem"):
        signing_identity()
