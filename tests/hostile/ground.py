"""Where hostile cases run: tiny valid inputs, and a command line in this process.

Nothing is trained: a case that comes so far was accepted, which is a failure.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from tests.helpers import tiny
from tests.helpers.studies import every_kind

from d90.adapters import Adapter, new_adapter
from d90.adapters.adapter import BaseModelInfo, TaskInfo
from d90.adapters.fingerprint import fingerprint
from d90.cli import main
from d90.errors import MAX_LINE
from d90.executors.runner import TrialRunner
from d90.experiments.tune import AdapterTuner
from d90.models import loading
from d90.pretraining.pretrain import PretrainSession
from d90.search.subspace_config import SubspaceConfig
from d90.subspace.layout import build_layout, find_params

D = 50

CLASSES = TaskInfo("toy", ("text",), ("0", "1"), 16, "accuracy", 0.5)


class Accepted(AssertionError):
    """The command took its input, and began to train."""


@dataclass(frozen=True)
class Ground:
    """Valid inputs of every kind, in one folder.

    Attributes:
        folder: it has the folders `model`, `task` and `study`, the adapters `a.st` and `b.st`,
            `corpus.txt`, and a language model with its adapter, `gpt2` and `c.st`.
    """

    folder: Path

    def names(self) -> dict[str, str]:
        """The paths by the names that cases use."""
        paths = {
            "model": "model", "task": "task", "study": "study", "adapter": "a.st", "other": "b.st",
            "corpus": "corpus.txt", "language_model": "gpt2", "generative": "c.st",
        }  # fmt: skip
        return {name: str(self.folder / path) for name, path in paths.items()}


def make_ground(folder: Path) -> Ground:
    """Write the valid inputs."""
    tiny.write_tiny_model(folder / "model")
    tiny.write_task(tiny.toy_task(), folder / "task")
    (folder / "study").mkdir()
    (folder / "study" / "summary.json").write_text(every_kind()["ok"].to_json())
    (folder / "corpus.txt").write_text("\n\n".join(f"a text of words {i}" for i in range(300)))
    for number, name in enumerate(("a.st", "b.st")):
        tiny_adapter(folder / "model", number).save(folder / name)
    tiny.write_language_model(folder / "gpt2", "gpt2")
    completions = TaskInfo("toy", ("prompt",), (), 16, "token_accuracy", 0.5, kind="generation")
    tiny_adapter(folder / "gpt2", task=completions).save(folder / "c.st")
    return Ground(folder)


def tiny_adapter(model: Path, number: int = 0, *, task: TaskInfo = CLASSES) -> Adapter:
    """An adapter of a tiny model that was not trained."""
    loaded, _ = loading.load(str(model), num_labels=len(task.labels) or None)
    layout, _ = build_layout(loaded, find_params(loaded), groups="layer", scale="tensor")
    base = BaseModelInfo(str(model), "", fingerprint(loaded), layout.D)
    z = np.linspace(-1e-3, 1e-3, D, dtype=np.float32) * (number + 1)
    return new_adapter(z, SubspaceConfig(d=D), base, task)


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        code: of the exit.
        out, err: what it printed.
        left: names of files and folders that it left in its folder.
    """

    code: int
    out: str
    err: str
    left: tuple[str, ...]


def run(arguments: Sequence[str]) -> Outcome:
    """Run `d90` in the current folder.

    Raises:
        Accepted: it began to train.
        Exception: what it did not turn into an error of one line.
    """
    before = _files()
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        no_training(),
        mock.patch.object(sys, "argv", ["d90", *arguments]),
    ):
        try:
            main(list(arguments))
        except SystemExit as exit:
            code = int(exit.code or 0)
    left = tuple(sorted(_files() - before))
    return Outcome(code, out.getvalue(), err.getvalue(), left)


def check_refused(outcome: Outcome, message: str = "", *, leaves: Sequence[str] = ()) -> None:
    """Check that a command ended as after bad input: exit code 2, one line, nothing left over.

    Args:
        outcome: of the command.
        message: a regular expression that its line matches.
        leaves: what it may leave in its folder.
    """
    assert outcome.err.startswith("error: "), outcome
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome
    assert len(outcome.err) < MAX_LINE + 100
    assert outcome.err.rstrip("\n").isprintable(), outcome
    assert re.search(message, outcome.err), outcome
    assert outcome.left == tuple(leaves), outcome


@contextlib.contextmanager
def no_training() -> Iterator[None]:
    """Training raises `Accepted` instead."""

    def accepted(*_: object, **__: object) -> None:
        raise Accepted

    with contextlib.ExitStack() as stack:
        for owner, name in (
            (TrialRunner, "run"),
            (TrialRunner, "estimate_seconds"),
            (AdapterTuner, "train"),
            (PretrainSession, "__init__"),
        ):
            stack.enter_context(mock.patch.object(owner, name, accepted))
        yield


def _files() -> set[str]:
    return {str(path) for path in Path().rglob("*")} if os.access(".", os.R_OK) else set()
