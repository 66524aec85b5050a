"""Where output goes, what is left of an attempt, and what is printed, reported and stored."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import QUICK, Command, d90  # noqa: F401  (a fixture)
from tests.helpers.disks import Disk, missing, small_disk
from tests.hostile.commands import TRAINING, VALID
from tests.hostile.ground import Ground, check_refused, run
from tests.utils.test_redact import SECRET, URLS

from d90.errors import StudyLockedError
from d90.storage.store import Store

FILE_OUTPUTS = ("predict", "combine")
FOLDER_OUTPUTS = ("report", "generalization", "merge")


def words(command: str, output: str, ground: Ground) -> list[str]:
    valid = VALID[command].format(**ground.names()).split()
    index = next(i for i, word in enumerate(valid) if word in ("-o", "--output"))
    return [command, *valid[: index + 1], output, *valid[index + 2 :]]


@pytest.mark.parametrize("command", FILE_OUTPUTS)
def test_devices_and_pipes_are_written_into(command: str, ground: Ground, here: Path) -> None:
    for device in ("/dev/null", "/dev/stdout"):
        assert run(words(command, device, ground)).code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    check_refused(run(words(command, "/dev/full", ground)), "No space left on device")
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as reader:
        assert run(words(command, "pipe", ground)).code == 0
        assert len(reader.communicate(timeout=10)[0]) > 30
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


@pytest.mark.parametrize("command", FILE_OUTPUTS)
def test_links_are_followed(command: str, ground: Ground, here: Path) -> None:
    (here / "target").write_text("old")
    (here / "link").symlink_to("target")
    assert run(words(command, "link", ground)).code == 0
    assert (here / "link").is_symlink() and (here / "target").stat().st_size > 30


BAD_FILES = ("", ".", "/", "folder", "folder/", "file/x", "loop", "missing/x", "/proc/x", "socket")


@pytest.mark.parametrize("output", BAD_FILES)
@pytest.mark.parametrize("command", [*FILE_OUTPUTS, "tune"])
def test_outputs_that_are_no_files(command: str, output: str, ground: Ground, here: Path) -> None:
    import socket

    if command == "tune" and output == "missing/x":
        pytest.skip("its folder is made with its checkpoints")
    (here / "folder").mkdir()
    (here / "file").write_text("")
    (here / "loop").symlink_to("loop")
    socket.socket(socket.AF_UNIX).bind("socket")
    check_refused(run(words(command, output, ground)))
    assert (here / "socket").is_socket() and (here / "loop").is_symlink()


@pytest.mark.parametrize("output", ["", "file", "file/x", "loop/x", "/proc/x", "/dev/null"])
@pytest.mark.parametrize("command", [*FOLDER_OUTPUTS, "measure", "table", "pretrain"])
def test_outputs_that_are_no_folders(command: str, output: str, ground: Ground, here: Path) -> None:
    (here / "file").write_text("theirs")
    (here / "loop").symlink_to("loop")
    check_refused(run(words(command, output, ground)))
    assert (here / "file").read_text() == "theirs"


@pytest.fixture
def disk() -> Iterator[Disk]:
    if why := missing():
        pytest.skip(why)
    with small_disk() as disk:
        yield disk


@pytest.mark.parametrize("command", [*FILE_OUTPUTS, *FOLDER_OUTPUTS])
def test_a_full_disk(command: str, ground: Ground, here: Path, disk: Disk) -> None:
    disk.fill()
    outcome = run(words(command, str(disk.folder / "out"), ground))
    check_refused(outcome, "No space left on device")
    disk.make_room()
    assert [path for path in disk.folder.rglob("*") if path.is_file()] == []
    assert run(words(command, str(disk.folder / "out"), ground)).code == 0


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("form", ["--store {}", "--store={}", "{}", "--workers={}"])
def test_no_secret_is_printed(url: str, form: str, ground: Ground, here: Path) -> None:
    if url.startswith("postgresql") and "host" in url:
        url = url.replace("@host", "@127.0.0.1:1").replace(":1:", ":")
    names = ground.names()
    options = ["--dims", "10", *TRAINING.split(), *form.format(url).split()]
    outcome = run(["measure", names["model"], names["task"], *options])
    assert outcome.code == 2
    assert SECRET not in outcome.out + outcome.err
    assert not any(SECRET in name for name in outcome.left)


def test_no_secret_is_reported_or_stored(
    d90: Command,  # noqa: F811
    ready_folder: Path,
    toy_folder: Path,
    tmp_path: Path,
) -> None:
    """A secret typed in every option that takes a text, and then sought in all that was written."""
    store = f"sqlite:///s.db?password={SECRET}&timeout=9"
    result = d90(
        "measure", ready_folder, toy_folder, *QUICK, "--dims", "10", "--store", store,
        "--output", "out",
    )  # fmt: skip
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert SECRET not in result.out + result.err
    assert [path.name for path in written if SECRET.encode() in path.read_bytes()] == []


def test_a_path_that_is_no_utf8(
    d90: Command,  # noqa: F811
    ready_folder: Path,
    toy_folder: Path,
    tmp_path: Path,
) -> None:
    """The report is written after all training: nothing in a name may stop it."""
    strange = tmp_path / os.fsdecode(b"a $\xff$ [bold]_{x}")
    shutil.copytree(toy_folder, strange)
    options = ["--dims", "10", "--store", "s.db", "--output", "out"]
    result = d90("measure", ready_folder, strange, *QUICK, *options)
    assert result.code == 0, result.err
    again = d90("report", "out", "--output", "again")
    assert again.code == 0, again.err
    for name in ("summary.json", "index.html", "curve.svg", "curve.png", "trials.csv"):
        assert Path("out", name).read_bytes() == Path("again", name).read_bytes()
    table = d90("table", ready_folder, "--tasks", strange, "--methods", "did", *QUICK, *options)
    assert table.code == 0, table.err


def test_two_links_to_a_store_are_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real.db", tmp_path / "link.db"
    Store(real)
    link.symlink_to(real)
    with (
        Store(real).study({"a": 1}, "x"),
        pytest.raises(StudyLockedError),
        Store(link).study({"a": 1}, "x"),
    ):
        pass


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "abc"}, "RANK is 'abc'"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK is '-1'"),
        ({"RANK": "0", "WORLD_SIZE": "x"}, "WORLD_SIZE 'x'"),
        ({"RANK": "5", "WORLD_SIZE": "2"}, "RANK is '5'"),
        ({"RANK": "0", "WORLD_SIZE": "9" * 5000}, "WORLD_SIZE"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
    ],
)
def test_environments(
    environment: dict[str, str],
    message: str,
    ground: Ground,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = [word.format(**ground.names()) for word in VALID["tune"].split()]
    check_refused(run(["tune", *command]), message)


@pytest.mark.parametrize(
    ("redirect", "code", "message"),
    [
        (">/dev/full", 2, "No space left on device"),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("|true", 0, ""),
    ],
)
def test_standard_output(redirect: str, code: int, message: str, ground: Ground) -> None:
    adapter = ground.names()["adapter"]
    shell = f"'{sys.executable}' -m d90 inspect --json '{adapter}' {redirect}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=100)
    assert done.returncode == code
    assert message in done.stderr and done.stderr.count("\n") <= bool(message)
