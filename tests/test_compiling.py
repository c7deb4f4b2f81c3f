"""Kernels compile where nothing can be written, and never run what somebody else has put among the temporary files."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numba.core import caching

from triportrait import compiling

KERNEL = "from triportrait.compiling import njit\n@njit(cache=True, nogil=True)\ndef twice(x):\n    return 2 * x\n"


@pytest.fixture
def define(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[Path, ...]], Any]:
    """A kernel of a module whose surroundings can be written to only below the given folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(compiling._Cache, "_announced", False)
    source = tmp_path / "kernels.py"
    source.write_text(KERNEL)

    def ensure(locator: Any) -> None:
        folder = Path(locator.get_cache_path())
        if not any(folder.is_relative_to(place) for place in writable):
            raise PermissionError("read-only file system")
        folder.mkdir(parents=True, exist_ok=True)

    writable: tuple[Path, ...] = ()
    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", ensure)

    def defined(places: tuple[Path, ...]) -> Any:
        nonlocal writable
        writable = places
        spec = importlib.util.spec_from_file_location("kernels", source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.twice

    return defined


def test_a_read_only_installation_keeps_kernels_among_the_temporary_files(
    define: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kernel = define((tmp_path / "tmp",))
    assert kernel(4) == 8
    kept = compiling.private_temporary_folder() / "numba"
    assert Path(kernel._cache.cache_path).is_relative_to(kept) and list(kept.rglob("*.nbi"))
    assert kept.parent.stat().st_mode & 0o077 == 0
    assert [record.message for record in caplog.records] == ["compiling the kernels, once; this takes some 20 s"]
    again = define((tmp_path / "tmp",))
    assert again(4) == 8 and again.stats.cache_hits


def test_without_any_folder_kernels_work_and_say_so(define: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert define(())(3) == 6
    assert ["NUMBA_CACHE_DIR" in record.message for record in caplog.records] == [True]


def test_an_ordinary_installation_keeps_them_beside_the_source(define: Callable[..., Any], tmp_path: Path) -> None:
    kernel = define((tmp_path / "__pycache__",))
    assert kernel(2.5) == 5.0 and list((tmp_path / "__pycache__").glob("*.nbi"))


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_damaged_cache_is_no_cache(ending: str, define: Callable[..., Any], tmp_path: Path) -> None:
    places = (tmp_path / "__pycache__",)
    assert define(places)(2) == 4
    for file in places[0].glob(f"*.{ending}"):
        file.write_bytes(file.read_bytes()[:40] + b"nonsense")
    assert define(places)(2) == 4


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="temporary folders are private on Windows")
@pytest.mark.parametrize("kind", ["link", "file", "writable by all", "somebody else's"])
def test_a_folder_of_others_is_not_trusted(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    user = os.getuid()
    folder = tmp_path / f"triportrait-{user}"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777 if kind == "writable by all" else 0o700)
        if kind == "somebody else's":
            monkeypatch.setattr(compiling.os, "getuid", lambda: user + 1)
            folder.rename(tmp_path / f"triportrait-{user + 1}")
    assert compiling.private_temporary_folder() is None


@pytest.mark.parametrize(("before", "after"), [("return 2 * x", "return 3 * x"), ("FACTOR = 2", "FACTOR = 3")])
def test_a_kernel_is_compiled_again_when_one_that_it_calls_or_a_constant_has_changed(
    before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    called, caller = tmp_path / "called_kernels.py", tmp_path / "calling_kernels.py"
    text = "from triportrait.compiling import njit\nFACTOR = 2\n@njit(cache=True)\ndef times(x):\n    return 2 * x\n"
    called.write_text(text)
    caller.write_text(
        "from triportrait.compiling import njit\nfrom called_kernels import FACTOR, times\n"
        "@njit(cache=True)\ndef both(x):\n    return times(x) * FACTOR\n"
    )

    def both() -> Any:
        for name in ("called_kernels", "calling_kernels"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("calling_kernels").both

    assert both()(5) == 20
    again = both()
    assert again(5) == 20 and again.stats.cache_hits
    called.write_text(text.replace(before, after) + "\n")
    assert both()(5) == 30
