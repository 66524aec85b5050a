"""Atomic writes: the old content or the new, and nothing beside it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from d90.errors import D90Error
from d90.utils import files
from d90.utils.files import atomic_path, atomic_write


def test_a_crash_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    atomic_write(path, "old")

    def crash(descriptor: int) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(files.os, "fsync", crash)
    with pytest.raises(OSError, match="input/output error"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with atomic_path(folder) as partial:
        partial.mkdir()
        (partial / "weights").write_text("1")
        assert list(folder.iterdir()) == []
    assert (folder / "weights").read_text() == "1"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_replaced(tmp_path: Path, kind: str) -> None:
    context = atomic_path(tmp_path / "x")
    partial = context.__enter__()
    if kind == "folder":
        (partial / "inside").mkdir(parents=True)
    else:
        partial.write_text("half")
    with atomic_path(tmp_path / "x") as again:
        assert again == partial and not again.exists()
        again.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_with_content_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "theirs").write_text("")
    with pytest.raises(OSError), atomic_path(tmp_path / "x") as partial:
        partial.mkdir()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["theirs", "x"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError('IoError: Os { message: "No space left on device (os error 28)" }'),
    ],
    ids=["OSError", "safetensors"],
)
def test_a_full_disk_is_one_line(tmp_path: Path, error: Exception) -> None:

    def write() -> None:
        with atomic_path(tmp_path / "x") as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(D90Error, match=r"'.*x' cannot be written: No space left on device: make"):
        write()
    assert list(tmp_path.iterdir()) == []
