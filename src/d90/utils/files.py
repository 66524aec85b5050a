"""Files and folders: paths as users give them, and writing atomically."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from d90.errors import DISK_FULL_ERRNOS, D90Error, disk_full


def as_path(text: str | Path, what: str) -> Path:
    """The path that a user gave, with `~` expanded; there need not be anything.

    Args:
        text: the path.
        what: it is, for the error: `model` or `--output`.

    Raises:
        D90Error: it is empty, names an unknown user, is longer than the system allows, or lies in a
            folder that may not be read.
    """
    try:
        if not str(text):
            raise ValueError("the name is empty")
        path = Path(text).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except OSError as error:
        raise D90Error(f"{what} '{text}': {error.strerror or error}.") from error
    except (ValueError, RuntimeError) as error:  # a null character; `~` of an unknown user
        reason = str(error).replace("Could not determine home directory.", "no such user")
        raise D90Error(f"{what} '{text}': {reason}: give another path.") from error
    return path


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file beside `path` and rename it: a reader or a crash never sees part of it.

    What killed processes left beside it is removed; several processes may write `path` at a time. A
    symbolic link is followed. Devices and pipes are written into. A character that UTF-8 lacks (a
    lone surrogate, as of a path that is not UTF-8) is written as its escape, such as `\\udcff`.

    Raises:
        D90Error: if the disk is full; the old file is then unchanged.
        OSError: if the file cannot be written.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
            raise OSError(errno.EINVAL, "not a file, device or pipe", str(path))
        with path.open("wb") as file:
            file.write(data)
        return
    target = Path(os.path.realpath(path))
    for abandoned in _partials(target):
        _remove_if_abandoned(abandoned)
    with _disk_full_errors(target):
        partial, descriptor = _create_locked(target)
        with open(descriptor, "wb") as file, _renamed(partial, target):
            if mode is not None:
                with suppress(PermissionError):
                    os.fchmod(descriptor, stat.S_IMODE(mode))
            file.write(data)
            file.flush()
            os.fsync(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path at which to make a file or a folder; it is renamed to `path` when the block ends.

    It is in a folder of its own beside `path`, since libraries write temporary files beside theirs.
    If the block raises, it is removed. What a killed process left there is removed first, so only
    one process at a time may write `path`. A symbolic link is followed. A folder replaces only an
    empty one.

    Raises:
        D90Error: if the disk is full; what was at `path` is then unchanged.
        OSError: if the folder cannot be written, or `path` is neither a file nor a folder.
    """
    mode, target = _mode(path), Path(os.path.realpath(path))
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "neither a file nor a folder", str(path))
    for abandoned in _partials(target):
        _remove(abandoned)
    partial, workspace = _beside(target), _beside(target)
    with _disk_full_errors(target), _renamed(partial, target):
        os.mkdir(workspace)
        try:
            yield workspace / partial.name
            _sync(workspace / partial.name)
            os.rename(workspace / partial.name, partial)
        finally:
            _remove(workspace)


def check_output_file(file: Path, option: str = "--output") -> None:
    """Check that a file can be written, before hours of training; nothing is created.

    Raises:
        D90Error: it cannot, or it is no file, device or pipe.
    """
    try:
        mode = _mode(file)
    except OSError as error:
        raise D90Error(f"{option} '{file}' cannot be written ({error.strerror}).") from error
    if mode is not None and stat.S_ISDIR(mode):
        raise D90Error(f"{option} '{file}' is a folder: give a file name.")
    if mode is not None and (stat.S_ISSOCK(mode) or stat.S_ISBLK(mode)):
        raise D90Error(f"{option} '{file}' is no file: give another path.")
    if mode is None or stat.S_ISREG(mode):
        check_output_folder(Path(os.path.realpath(file)).parent, option)


def check_output_folder(folder: Path, option: str = "--output") -> None:
    """Check that a folder can be written or created, before hours of training; nothing is created.

    Raises:
        D90Error: it cannot.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    try:
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise disk_full(f"{option} '{folder}'", error.errno) from error
        raise D90Error(
            f"{option} '{folder}' cannot be written ({error.strerror}): choose a writable folder."
        ) from error


@contextmanager
def _renamed(partial: Path, path: Path) -> Iterator[None]:
    """Rename what the block has made and synced, or remove it if the block raises."""
    try:
        yield
        os.replace(partial, path)
        with suppress(OSError):  # Not every file system can: the rename is then only not yet on it.
            _sync_one(path.parent)
    finally:
        _remove(partial)


@contextmanager
def _disk_full_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if (number := _disk_full_errno(error)) is not None:
            raise disk_full(f"'{path}'", number) from error
        raise


def _mode(path: Path) -> int | None:
    """The mode of what the path leads to; None if there is nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _prefix(path: Path) -> str:
    """How the names of partial files of `path` begin; the file's own name may be the longest."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return f".{path.name[:30]}.{digest[:8]}."


def _beside(path: Path) -> Path:
    """A name that nobody can foresee, in the same folder."""
    return path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}.partial")


def _create_locked(target: Path) -> tuple[Path, int]:
    """A new file beside the target and its descriptor, locked while that is open."""
    while True:
        partial = _beside(target)
        # Created by this process: neither a file of another one nor a link to somewhere else.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # Not every file system has locks: nothing is abandoned there.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if partial.exists():
            return partial, descriptor
        os.close(descriptor)  # Another process took it for abandoned before it was locked.


def _remove_if_abandoned(partial: Path) -> None:
    """Remove a partial file, unless a process that writes it has it locked."""
    with suppress(OSError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(partial, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()  # Still locked: a process that has just created it sees it gone.
        finally:
            os.close(descriptor)


def _partials(path: Path) -> list[Path]:
    """What is there of partial files and folders of `path`, of any process."""
    try:
        with os.scandir(path.parent) as entries:
            return [Path(entry.path) for entry in entries if entry.name.startswith(_prefix(path))]
    except FileNotFoundError:
        return []


def _sync(path: Path) -> None:
    """Wait until a file, or all that is in a folder, is on the disk."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                _sync_one(Path(folder, name))
            _sync_one(Path(folder))
    else:
        _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_full_errno(error: Exception) -> int | None:
    """The number of a full disk's error; safetensors gives it only in its message."""
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return error.errno
    if f"os error {errno.ENOSPC}" in str(error):
        return errno.ENOSPC
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
