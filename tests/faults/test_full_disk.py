"""A disk that is full: one line, nothing half written, and on it goes when there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.helpers.disks import Disk, missing, small_disk

from d90.errors import D90Error
from d90.executors import TrialRunner
from d90.search.trial import Trial, TrialResult
from d90.storage.locks.file import FileLock
from d90.storage.store import Store
from d90.tasks import Task
from d90.training import TrainConfig
from d90.training.checkpoint import load_checkpoint, save_checkpoint
from d90.utils.files import atomic_write

TRIAL = Trial(10, 0.01)


@pytest.fixture
def disk() -> Iterator[Disk]:
    if why := missing():
        pytest.skip(why)
    with small_disk() as disk:
        yield disk


def assert_one_line(write: Callable[[], object], file: Path) -> None:
    with pytest.raises(D90Error, match="No space left on device: make room and rerun") as error:
        write()
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def drive(path: Path, trials: list[Trial]) -> None:
    with Store(path).study({"a": 1}, "x") as study:
        for trial in trials:
            study.finish(study.start(trial, str(trial)), TrialResult(trial, "ok", metric=0.5))


def test_a_store(disk: Disk) -> None:
    path = disk.folder / "d90.db"
    drive(path, [TRIAL])
    disk.fill()
    # SQLite wants a journal of some pages before it changes one.
    assert_one_line(lambda: drive(path, [Trial(20, 0.01)]), path)
    (study,) = Store(path).studies()
    assert [result.trial for result in Store(path).results(study.name)] == [TRIAL]
    disk.make_room()
    drive(path, [Trial(20, 0.01)])
    assert len(Store(path).results(study.name)) == 2


def test_a_store_that_is_filled_between_start_and_finish(disk: Disk) -> None:
    path = disk.folder / "d90.db"

    def interrupted() -> None:
        with Store(path).study({"a": 1}, "x") as study:
            handle = study.start(TRIAL, "key")
            disk.fill()
            study.finish(handle, TrialResult(TRIAL, "ok", metric=0.5))

    assert_one_line(interrupted, path)
    disk.make_room()
    drive(path, [TRIAL])
    (study,) = Store(path).studies()
    assert len(Store(path).results(study.name)) == 1


def test_a_store_that_is_not_there_yet(disk: Disk) -> None:
    disk.fill()
    path = disk.folder / "d90.db"
    assert_one_line(lambda: Store(path), path)
    disk.make_room()
    drive(path, [TRIAL])


def test_a_lock(disk: Disk) -> None:
    disk.fill()
    path = disk.folder / "d90.db.lock"
    assert_one_line(lambda: FileLock(path, "x").__enter__(), path)
    assert not path.exists()
    disk.make_room()
    with FileLock(path, "x") as lock:
        lock.check()


def test_a_file_of_a_report(disk: Disk) -> None:
    path = disk.folder / "summary.json"
    atomic_write(path, "old")
    disk.fill()
    assert_one_line(lambda: atomic_write(path, "new"), path)
    assert path.read_text() == "old"
    assert sorted(file.name for file in disk.folder.iterdir()) == ["filler", "summary.json"]
    disk.make_room()
    atomic_write(path, "new")
    assert path.read_text() == "new"


def test_a_checkpoint(disk: Disk) -> None:
    path = disk.folder / "run" / "checkpoint.safetensors"
    save_checkpoint(path, {"z": torch.zeros(10)}, {"identity": {}})
    disk.fill()
    assert_one_line(lambda: save_checkpoint(path, {"z": torch.ones(9999)}, {"identity": {}}), path)
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.safetensors"]
    checkpoint = load_checkpoint(path, identity={})
    assert checkpoint is not None
    assert checkpoint[0]["z"].tolist() == [0.0] * 10


def test_a_checkpoint_in_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(D90Error, match=r"checkpoint .* cannot be written \(.*\): give a folder"):
        save_checkpoint(tmp_path / "run" / "x.safetensors", {"z": torch.zeros(1)}, {})


def test_it_is_not_the_trials_fault(disk: Disk, ready_folder: Path, toy_task: Task) -> None:
    """A run that `failed` would be a result; this one has none."""
    settings = TrainConfig(epochs=2, batch_size=8, precision="no")
    executor = TrialRunner(
        str(ready_folder), toy_task, settings, max_length=16, checkpoint_dir=disk.folder / "runs"
    )
    disk.fill()
    assert_one_line(lambda: executor.run(TRIAL), disk.folder / "runs")
    disk.make_room()
    assert executor.run(TRIAL).metric is not None
