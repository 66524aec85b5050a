"""A few thousand of the inputs of `make fuzz`; what the harness takes for a finding."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest
from tests.fuzz import harness
from tests.fuzz.__main__ import main
from tests.fuzz.harness import Tally
from tests.fuzz.readers import READERS, Prepared, shares
from tests.fuzz.workers import fuzz

import d90
from d90.errors import D90Error
from d90.search.summary import Summary

SOURCE = Path(d90.__file__).parent

READS = {
    *("parse_json", "parse_toml", "read_text", "read_lines", "open_text", "read_table"),
    *("safe_open", "ParquetFile", "memmap", "fromfile", "from_pretrained", "load_checkpoint"),
    *("read_bytes", "mmap"),
}
"""Functions that read a file from outside."""

LEFT_OUT = {
    "training.memory": "files of the kernel",
    "training.loop": "resumed by `checkpoint`",
    "pretraining.plan": "only a digest of the bytes",
}
"""Modules that call one of them and have no fuzzer, and why."""


@pytest.mark.parametrize("reader", READERS)
def test_mutated_files_are_read_or_refused(reader: str) -> None:
    tally = Tally()
    for part in harness.run(reader, seed=1, numbers=range(shares(2000, [*READERS])[reader])):
        tally.add(part)
    assert tally.findings == []
    assert tally.inputs == tally.accepted + tally.refused


def test_every_module_that_reads_files_is_fuzzed() -> None:
    fuzzed = {module for reader in READERS.values() for module in reader.modules}
    found = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for path in SOURCE.rglob("*.py")
        if _calls(path) & READS
    }
    assert found - fuzzed - LEFT_OUT.keys() == set()
    assert (fuzzed | LEFT_OUT.keys()) - found <= {"benchmarks.gpu_study"}  # none that is gone


def _calls(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    calls = [node.func for node in tree if isinstance(node, ast.Call)]
    return {getattr(call, "attr", None) or getattr(call, "id", "") for call in calls}


def test_a_planted_bug_is_found_and_can_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def careless(text: str) -> Summary:
        return Summary(**__import__("json").loads(text))

    monkeypatch.setattr(Summary, "from_json", careless)
    monkeypatch.setattr(harness, "_check_valid", lambda *_: None)
    [tally] = harness.run("summary", seed=0, numbers=range(40))
    assert tally.findings
    command = harness.save(tmp_path, "summary", 0, tally.findings[0])
    file = Path(command.split("'")[1])
    assert harness.replay("summary", file).findings
    assert main(["--reader", "summary", "--replay", str(file)]) == 1
    monkeypatch.undo()
    assert main(["--reader", "summary", "--replay", str(file)]) == 0
    assert "summary" in capsys.readouterr().out


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda _: _raise(KeyError("a")), "KeyError at test_fuzz.py"),
        (lambda _: _raise(RecursionError()), "RecursionError"),
        (lambda _: time.sleep(3), "more than 1 s"),
        (lambda _: sum(range(60_000_000)), " s"),
        (lambda _: b"x" * (300 << 20), " MB"),
    ],
)
def test_all_but_a_value_or_one_line_is_a_finding(
    read, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "HANG_SECONDS", 1)
    monkeypatch.setattr(harness, "MAX_SECONDS", 0.5)
    tally = Tally()
    harness.judge(Prepared({}, read), tmp_path / "a.json", tally)
    [(_, _, what)] = tally.findings
    assert expected in what
    assert tally.inputs == 1


@pytest.mark.parametrize("message", ["", "a\nb", "\x1b[31m", "x" * 1001, "\ud800", "\u202e"])
def test_a_message_that_is_not_one_short_printable_line_is_a_finding(message: str) -> None:
    assert harness.flaw(message) is not None
    assert harness.flaw(str(D90Error(f"{message}."))) is None
    assert harness.flaw("a line, 'é' and ≤ included") is None


def test_inputs_are_a_function_of_the_seed(tmp_path: Path) -> None:
    prepared = READERS["task"].prepare(tmp_path)
    first, again, other = (
        [harness.make_input(prepared, "task", seed, number) for number in range(30)]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_a_process_that_dies_is_a_finding() -> None:
    [(number, _, what)] = fuzz({"no reader": 3}, seed=0, processes=1)["no reader"].findings
    assert number == 0
    assert what == "the process ended with 1: KeyError: 'no reader'"
