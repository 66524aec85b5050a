"""Commands that are ended at every call to the file system, and given again."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import safe_open
from tests.crash.shim import KILLED, Call, arm, read_log

TIMES = ("seconds", "started", "finished")
"""Keys of JSON whose values differ from run to run."""

_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_IS_LOCK = re.compile(r"(^|\.)lock$")


@dataclass(frozen=True)
class Scenario:
    """A command, and what it must end with.

    Attributes:
        name: of the scenario.
        command: run in the folder to be watched; an exception is a failure.
        prepare: what is there before it, such as an older file.
        contents: overrides how files are compared: name to a function of the path.
    """

    name: str
    command: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    contents: dict[str, Callable[[Path], object]] | None = None

    def outcome(self, folder: Path) -> dict[str, object]:
        """All files of the folder by name, without times."""
        special = self.contents or {}
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        found: dict[str, object] = {
            f"{path.relative_to(folder)}/": None for path in folder.rglob("*") if path.is_dir()
        }
        for path in files:
            name = str(path.relative_to(folder))
            found[name] = special.get(name, content)(path)
        return found


@dataclass(frozen=True)
class Point:
    """Where a command is ended: after its call of this number, or, `torn`, in the middle of it."""

    number: int
    torn: bool = False


@dataclass(frozen=True)
class Undisturbed:
    """A command that ran to its end."""

    calls: tuple[Call, ...]
    outcome: dict[str, object]

    def points(self) -> list[Point]:
        """After every call, and in the middle of every write."""
        points = []
        for number, call in enumerate(self.calls, 1):
            points += [Point(number, torn=True)] if call.kind == "write" else []
            points.append(Point(number))
        return points


def undisturbed(scenario: Scenario, place: Path) -> Undisturbed:
    """Run the command to its end, in a new folder.

    Raises:
        AssertionError: it fails.
    """
    folder = _prepared(scenario, place)
    assert _run(scenario.command, folder) == 0, (folder.with_suffix(".out")).read_text()
    calls = read_log(folder.with_suffix(".log"), folder)
    return Undisturbed(tuple(calls), scenario.outcome(folder))


def preload(scenario: Scenario, place: Path) -> None:
    """Import what the command imports, so that children find it; nothing is run in this process."""
    modules = place / "modules"

    def write_modules() -> None:
        try:
            scenario.command()
        finally:
            modules.write_text("\n".join(sys.modules))

    folder = _prepared(scenario, place / "preload")
    _run(write_modules, folder)
    for name in modules.read_text().splitlines():
        with suppress(Exception):  # Some exist under a name that cannot be imported.
            import_module(name)


def disturb(scenario: Scenario, place: Path, point: Point, expected: Undisturbed) -> list[str]:
    """End the command at the point and give it again; what is wrong then, a line for each."""
    folder = _prepared(scenario, place)
    code = _run(scenario.command, folder, point)
    if code != KILLED:
        return [f"ended with {code} instead of being killed: {_said(folder)}"]
    code = _run(scenario.command, folder)
    if code != 0:
        return [f"given again, it ended with {code}: {_said(folder)}"]
    return differences(scenario.outcome(folder), expected.outcome)


def differences(found: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    """Files that are missing, left over or different."""
    return [
        *(f"{name} is missing" for name in sorted({*expected} - {*found})),
        *(f"{name} is left over" for name in sorted({*found} - {*expected})),
        *(f"{n} differs" for n in sorted({*found} & {*expected}) if found[n] != expected[n]),
    ]


def drawn(points: Sequence[Point], count: int | None, seed: int) -> list[Point]:
    """So many points, evenly spaced from a start that the seed draws; all for None."""
    if count is None or count >= len(points):
        return list(points)
    start = random.Random(seed).random()
    return [points[int((i + start) * len(points) / count)] for i in range(count)]


def broken_laws(calls: Sequence[Call]) -> list[str]:
    """What of these calls could leave half a file after a crash or a loss of power.

    A file gets its final name by a rename, is on the disk before it and its folder after it, and is
    not written later. SQLite's own files, which it keeps consistent, and locks are left out.
    """
    dirty: dict[int, str] = {}
    renamed: dict[str, str] = {}
    broken = []
    for call in calls:
        if _is_kept_by_others(call.path):
            continue
        if call.kind == "write":
            dirty[call.inode] = call.path
            if not _is_partial(call.path):
                broken.append(f"{call.path} is written under its final name")
        elif call.kind == "sync":
            dirty.pop(call.inode, None)
            renamed = {file: where for file, where in renamed.items() if where != call.path}
        elif call.kind == "unlink":
            dirty.pop(call.inode, None)
        elif call.kind == "rename":
            old, new = re.escape(call.path), call.target
            inside = {i: p for i, p in dirty.items() if re.match(f"{old}(/|$)", p)}
            if _is_partial(new):
                dirty |= {i: new + p[len(call.path) :] for i, p in inside.items()}
                continue
            broken += [f"{new} gets its name before {p} is on the disk" for p in inside.values()]
            renamed[new] = os.path.dirname(new) or "."
    return broken + [f"the rename to {file} is not on the disk" for file in renamed]


def content(path: Path) -> object:
    """What must be equal in two runs: the bytes, in JSON and checkpoints without times."""
    if _IS_LOCK.search(path.name):
        return None  # It names the last process.
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text()))
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            metadata = dict(file.metadata() or {})
        if "state" in metadata:
            state = _without_times(json.loads(metadata["state"]))
            data = path.read_bytes()
            return state, data[8 + int.from_bytes(data[:8], "little") :]
    return _TIME.sub(b"", path.read_bytes())


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def _is_partial(path: str) -> bool:
    return any(part.startswith(".") and ".partial" in part for part in path.split("/"))


def _is_kept_by_others(path: str) -> bool:
    return ".db" in path or bool(_IS_LOCK.search(path))


def _prepared(scenario: Scenario, place: Path) -> Path:
    folder = place / scenario.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    assert _run(scenario.prepare, folder) == 0, _said(folder)
    return folder


def _said(folder: Path) -> str:
    return folder.with_suffix(".out").read_text()[-2000:]


def run_in_child(command: Callable[[], object], output: Path) -> int:
    """The exit code of the command in a child of this process, whose modules it has at once.

    Args:
        command: what it does.
        output: what it says is written there.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(said, 1)
            os.dup2(said, 2)
            command()
            code = 0
        except SystemExit as exit:
            code = int(exit.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(command: Callable[[], object], folder: Path, point: Point | None = None) -> int:
    def watched() -> None:
        os.chdir(folder)
        at, torn = (point.number, point.torn) if point else (None, False)
        arm(folder, folder.with_suffix(".log"), at=at, torn=torn)
        command()

    return run_in_child(watched, folder.with_suffix(".out"))
