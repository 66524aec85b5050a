"""Atomic writes: the old content or the new, and nothing beside it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from d90.errors import D90Error
from d90.utils import files
from d90.utils.files import as_path, atomic_path, atomic_write, check_output_folder


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
        assert not partial.exists() and not again.exists()
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


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[str] = []
    reader = Thread(target=lambda: got.append(path.read_text()))
    reader.start()
    atomic_write(path, "content")
    reader.join(10)
    assert got == ["content"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_is_written_into_and_stays() -> None:
    atomic_write(Path("/dev/null"), "content")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(Path("/dev/full"), "content")


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("kind", ["write", "path"])
def test_a_link_is_followed(tmp_path: Path, is_there: bool, kind: str) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to("folder/target")
    if is_there:
        target.write_text("old")
    if kind == "write":
        atomic_write(link, "new")
    else:
        with atomic_path(link) as partial:
            partial.write_text("new")
    assert link.is_symlink() and target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "link", "target"]


def _socket(path: Path) -> None:
    import socket

    socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))


@pytest.mark.parametrize("make", [Path.mkdir, _socket], ids=["folder", "socket"])
def test_what_is_no_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "x")
    before = (tmp_path / "x").stat().st_mode
    with pytest.raises(OSError, match="not a file, device or pipe"):
        atomic_write(tmp_path / "x", "new")
    assert (tmp_path / "x").stat().st_mode == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_partial_files_cannot_be_foreseen_and_follow_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    for _ in range(2):
        with atomic_path(tmp_path / "x") as partial:
            names.append(partial.name)
            partial.write_text("new")
    assert names[0] != names[1]
    # Even a link that was put where the file will be is not written through.
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "known")
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    files._beside(tmp_path / "x").symlink_to(victim)
    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "x", "new")
    assert victim.read_text() == "theirs"


def test_the_longest_name_and_the_mode_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    atomic_write(path, "old")
    path.chmod(0o600)
    atomic_write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with atomic_path(path) as partial:
        partial.write_text("newer")
    assert path.read_text() == "newer"


def test_all_of_a_folder_is_synced_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        files.os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}"))
    )
    with atomic_path(tmp_path / "model") as partial:
        (partial / "inside").mkdir(parents=True)
        (partial / "inside" / "weights").write_text("1")
    expected = [partial / "inside" / "weights", partial / "inside", partial, tmp_path]
    assert sorted(synced) == sorted(map(str, expected))
    assert synced[-1] == str(tmp_path)


def test_a_surrogate_is_written_as_its_escape(tmp_path: Path) -> None:
    atomic_write(tmp_path / "x", "a\udcffb")
    assert (tmp_path / "x").read_bytes() == rb"a\udcffb"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "model '': the name is empty: give another path."),
        ("a" * 300, "model 'a+': File name too long."),
        ("a/" * 3000, "File name too long."),
        ("~nosuchuser/x", "model '~nosuchuser/x': no such user: give another path."),
        ("a\0b", "embedded null"),
        ("loop", "Too many levels of symbolic links."),
    ],
)
def test_paths_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(D90Error, match=message):
        as_path(text, "model")


def test_a_folder_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(D90Error, match=r"model '/private/x': Permission denied\.$"):
        as_path("/private/x", "model")


def test_paths_that_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in ("nothing/there", "file", "file/below"):
        assert as_path(str(tmp_path / path), "model") == tmp_path / path
    assert as_path("~/x", "model") == Path.home() / "x"


def test_an_output_folder_is_checked_and_not_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_output_folder(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(D90Error, match=r"/file/x' cannot be written \(Not a directory\)"):
        check_output_folder(tmp_path / "file" / "x")


def test_abandoned_files_are_removed_and_those_that_are_being_written_stay(tmp_path: Path) -> None:
    target = tmp_path / "x"
    abandoned, descriptor = files._create_locked(target)
    os.close(descriptor)  # As when its process dies.
    in_use, descriptor = files._create_locked(target)
    atomic_write(target, "new")
    assert not abandoned.exists() and in_use.exists()
    os.close(descriptor)
    atomic_write(target, "newer")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_that_was_taken_for_abandoned_before_it_was_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = files.fcntl.flock, []

    def lock_late(descriptor: int, how: int) -> None:
        if not taken:
            (partial,) = tmp_path.iterdir()
            partial.unlink()
            taken.append(partial)
        lock(descriptor, how)

    monkeypatch.setattr(files.fcntl, "flock", lock_late)
    atomic_write(tmp_path / "x", "new")
    assert taken and (tmp_path / "x").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_a_library_writes_beside_its_file_is_removed(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x") as partial:
        (partial.parent / ".tmpAbCdEf").write_text("half")
        partial.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    context = atomic_path(tmp_path / "x")
    partial = context.__enter__()
    (partial.parent / ".tmpAbCdEf").write_text("half")
    with atomic_path(tmp_path / "x") as again:
        again.write_text("newer")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
