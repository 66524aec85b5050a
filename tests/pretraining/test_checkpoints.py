"""The folder of a run as other commands read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from d90.errors import D90Error
from d90.pretraining.checkpoints import checkpoints, history, read
from d90.pretraining.summary import Summary


def test_reading_loads_no_torch(finished: tuple[Path, Summary]) -> None:
    code = (
        "import sys; from d90.pretraining.checkpoints import checkpoints, history\n"
        "print(len(checkpoints(sys.argv[1])), len(history(sys.argv[1])))\n"
        "print({'torch', 'transformers', 'numpy', 'matplotlib'} & {*sys.modules})"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, finished[0]], capture_output=True, text=True, check=True
    )
    assert said.stdout == "3 5\nset()\n"


def test_a_summary_comes_back(finished: tuple[Path, Summary]) -> None:
    assert Summary.load(finished[0]) == finished[1]


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(D90Error, match="is no pre-training folder"):
        checkpoints(tmp_path)
    with pytest.raises(D90Error, match="is no pre-training folder"):
        history(tmp_path / "nothing")
    file = tmp_path / "pretraining.json"
    other_version = json.dumps({"history": [{"step": 0, "other_loss": 1.0}], "settings": {}})
    for text in ("{", "[]", "{}", other_version):
        file.write_text(text)
        with pytest.raises(D90Error, match="is damaged"):
            read(tmp_path)
    file.write_text(json.dumps({"history": [], "settings": {}}))
    (tmp_path / "checkpoints" / ".step-00000000.partial").mkdir(parents=True)
    with pytest.raises(D90Error, match="has no checkpoint yet"):
        checkpoints(tmp_path)
