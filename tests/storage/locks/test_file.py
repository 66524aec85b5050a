"""The lock on a file: of one process at a time, whatever the file holds or becomes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from d90.errors import D90Error, StorageError, StudyLockedError
from d90.storage.locks.file import FileLock

HOLD = """
import sys
from pathlib import Path
from d90.storage.locks.file import FileLock
with FileLock(Path(sys.argv[1]), "x"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock, until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


def test_the_second_process_is_told_who_holds_it(path: Path) -> None:
    with held(path) as first:
        message = f"^study 'x' is already being run by process {first.pid} on .* rerun the command"
        with pytest.raises(StudyLockedError, match=message), FileLock(path, "study 'x'"):
            pass
        first.communicate()
        assert not path.exists()
        with FileLock(path, "x"):
            assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_a_killed_process_leaves_no_lock(path: Path) -> None:
    with held(path) as first:
        first.kill()
        first.wait()
        assert path.exists()
        with FileLock(path, "x"):
            pass
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "text",
        "[]",
        "3",
        "{}",
        '{"pid": 1}',
        '{"pid": "1", "host": "a"}',
        '{"pid": 1, "host": null}',
        '{"pid": 1, "host": "\\ud800"}',
        '{"pid": ' + "9" * 4000 + ', "host": "a"}',
        "[" * 100_000,
        '{"pid": 1, "host": "' + "a" * (1 << 20) + '"}',
        b"\xff\xfe",
    ],
    ids=lambda content: ascii(content)[:20],
)
def test_a_damaged_file_is_still_locked(path: Path, content: str | bytes) -> None:
    with held(path):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(StudyLockedError) as error, FileLock(path, "x"):
            pass
    assert str(error.value).startswith("x is already being run by another process: wait for it")


def test_the_host_is_printed_in_one_line(path: Path) -> None:
    with held(path):
        path.write_text(json.dumps({"pid": 1, "host": "\x1b[31m\nb" * 100}))
        with pytest.raises(StudyLockedError) as error, FileLock(path, "x"):
            pass
    assert str(error.value).isprintable() and len(str(error.value)) <= 1000


def test_what_is_left_of_another_time_is_overwritten(path: Path) -> None:
    path.write_bytes(b"\xff" * 10_000)
    with FileLock(path, "x"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_links_pipes_and_folders_are_refused_and_kept(path: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    for make in (lambda: path.symlink_to("theirs"), lambda: os.mkfifo(path), path.mkdir):
        make()
        with (
            pytest.raises(StorageError, match=r"^cannot lock x: '.*a.lock': "),
            FileLock(path, "x"),
        ):
            pass
        assert path.is_symlink() or path.is_fifo() or path.is_dir()
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(D90Error, match=r"cannot lock x: .*No such file or directory: choose"),
        FileLock(tmp_path / "missing" / "a.lock", "x"),
    ):
        pass


def test_a_file_that_was_removed_meanwhile_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a process that releases it between our opening and our locking."""
    opened, open_file = [], os.open

    def open_and_remove(*arguments: object) -> int:
        opened.append(open_file(*arguments))  # type: ignore[arg-type]
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(os, "open", open_and_remove)
    with FileLock(path, "x"):
        assert path.exists()
    assert len(opened) == 2


def test_one_of_several_processes_holds_it_at_a_time(path: Path) -> None:
    """Each appends its own mark twice while it holds the lock: no other one is in between."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from d90.errors import StudyLockedError\n"
        "from d90.storage.locks.file import FileLock\n"
        "path, taken = Path(sys.argv[1]), 0\n"
        "with open(sys.argv[2], 'a', buffering=1) as log:\n"
        "    while taken < 50:\n"
        "        try:\n"
        "            with FileLock(path, 'x'):\n"
        "                taken += 1\n"
        "                log.write(f'{sys.argv[3]}\\n')\n"
        "                time.sleep(0.001)\n"
        "                log.write(f'{sys.argv[3]}\\n')\n"
        "        except StudyLockedError:\n"
        "            pass\n"
    )
    log = path.with_name("log")
    command = [sys.executable, "-c", code, str(path), str(log)]
    processes = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0, 0]
    marks = log.read_text().split()
    assert len(marks) == 300
    assert marks[::2] == marks[1::2]


def test_a_forked_child_does_not_release_it(path: Path) -> None:
    with FileLock(path, "x") as lock:
        child = os.fork()
        if not child:
            lock.__exit__()
            os._exit(0)
        os.waitpid(child, 0)
        assert path.exists()


def test_it_needs_no_database() -> None:
    code = (
        "import sys\n"
        "sys.modules['optuna'] = sys.modules['sqlalchemy'] = None\n"
        "import d90.cli.commands.tune, d90.experiments.tune, d90.pretraining.pretrain\n"
        "from d90.storage.locks.file import FileLock\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
