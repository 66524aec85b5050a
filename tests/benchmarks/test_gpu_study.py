"""The GPU study: rehearsed on a CPU, without the packages that a machine with a GPU may lack."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from benchmarks.gpu_files import write_task
from benchmarks.gpu_study import REHEARSAL, STUDY, main, read, trials
from benchmarks.machine import ROOT
from tests.helpers.tiny import toy_task, write_tiny_model

from benchmarks import gpu_study
from d90.errors import D90Error
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult

ABSENT = ("optuna", "sqlalchemy", "constriction", "datasets", "ray")
"""Packages that a machine with a GPU need not have."""

TRIALS = len(REHEARSAL.seeds) * (1 + 2 * len(REHEARSAL.dims))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder like `.gpu/`, with a tiny model and a toy task."""
    folder = tmp_path_factory.mktemp("prepared")
    write_tiny_model(folder / "minilm-l6")
    write_task(toy_task(), folder / REHEARSAL.task)
    return folder


@pytest.fixture(scope="module")
def studied(prepared, tmp_path_factory):
    """The file of a rehearsal that was cut off after a trial, and then resumed."""
    folder = tmp_path_factory.mktemp("studied")
    packages, file = folder / "packages", folder / "study.jsonl"
    for name in ABSENT:
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text(f"raise ModuleNotFoundError('no {name}')")
    file.write_text("\n".join([*first_lines(prepared), '{"method": "did", "resu']))
    path = os.pathsep.join([str(packages), str(ROOT / "src")])
    command = [sys.executable, "-m", "benchmarks.gpu_study", "run", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--folder", prepared, file],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"1 trials are in '{file}', {TRIALS - 1} are left" in done.stdout
    return file


def first_lines(folder):
    """A header and a baseline that trained, which the rehearsal is too short for."""
    header = gpu_study.header(REHEARSAL, gpu_study.load(REHEARSAL, "did", folder))
    trial = Trial(None, REHEARSAL.baseline_learning_rate, REHEARSAL.seeds[0])
    result = TrialResult(trial, "ok", metric=0.75, train_metric=0.8, seconds=1.0)
    line = {"method": "did", "result": result.to_json(), "finished": header["started"]}
    return [json.dumps(header), json.dumps(line)]


def test_every_trial_is_run_once(studied):
    results = read(studied).results
    assert results[0][1].metric == 0.75
    done = [(method, result.trial) for method, result in results]
    assert sorted(done, key=repr) == sorted(trials(REHEARSAL), key=repr)
    assert {result.status for _, result in results} <= {"ok", "collapsed"}


def test_the_study_is_65_runs_seed_by_seed():
    runs = [trial for _, trial in trials(STUDY)]
    assert len(runs) == len(set(trials(STUDY))) == 65
    assert [trial.seed for trial in runs] == sorted(trial.seed for trial in runs)
    assert sum(trial.is_full for trial in runs) == 5


def test_each_method_gets_the_report_of_a_study(studied, prepared, tmp_path, capsys):
    main(["report", str(studied), "--folder", str(prepared), "--output", str(tmp_path)])
    recorded = read(studied)
    for method in ("did", "said"):
        folder = tmp_path / f"mrpc-{method}"
        assert {"index.html", "summary.json", "curve.png"} <= {p.name for p in folder.iterdir()}
        summary = Summary.load(folder)
        assert summary.method == method
        assert len(summary.trials) == len(REHEARSAL.seeds) * (1 + len(REHEARSAL.dims))
        assert summary.full_metric == 0.75
        assert summary.versions == recorded.header["versions"]
        assert summary.settings["theta_0"] == recorded.header["identity"]["theta_0"]
    assert "SAID:" in capsys.readouterr().out


def test_other_settings_or_data_are_refused(studied, prepared, tmp_path, capsys):
    changed, copy = tmp_path / "changed", tmp_path / "copy.jsonl"
    header, *rest = studied.read_text().splitlines()
    fields = json.loads(header)
    fields["settings"]["epochs"] += 1
    copy.write_text("\n".join([json.dumps(fields), *rest]) + "\n")
    arguments = ["run", str(copy), "--device", "cpu", "--folder", str(prepared)]
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "has trials of other settings" in capsys.readouterr().err

    changed.mkdir()
    (changed / "minilm-l6").symlink_to(prepared / "minilm-l6")
    task = toy_task()
    write_task(replace(task, train=task.evaluation["validation"]), changed / REHEARSAL.task)
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(studied), "--folder", str(changed), "--output", str(tmp_path)])
    assert "is of other data" in capsys.readouterr().err


HEADER = json.dumps({name: {} for name in gpu_study.HEADER})
RESULT = TrialResult(Trial(10, 0.01), "ok", 0.5, 0.5, 1.0).to_json()
LINE = {"method": "did", "result": RESULT, "finished": "2026-01-01"}


def without(key):
    return {name: value for name, value in LINE.items() if name != key}


@pytest.mark.parametrize(
    ("header", "line"),
    [
        *((HEADER, json.dumps(line)) for line in (3, None, [], "x", {}, [LINE])),
        *((HEADER, json.dumps(without(key))) for key in LINE),
        *((HEADER, json.dumps({**LINE, "method": method})) for method in (3, None, ["did"])),
        *((HEADER, json.dumps({**LINE, "finished": time})) for time in (3, None, {})),
        *((HEADER, json.dumps({**LINE, "result": result})) for result in (3, None, [], "x", {})),
        *(
            (HEADER, json.dumps({**LINE, "result": {**RESULT, **changed}}))
            for changed in ({"metric": "x"}, {"seconds": [1]}, {"history": 3}, {"metrics": []})
        ),
        *(
            (HEADER, json.dumps({**LINE, "result": {**RESULT, "trial": trial}}))
            for trial in (3, {}, {"d": "x", "learning_rate": 0.1, "seed": 0}, {"d": 10})
        ),
        (HEADER, '{"method": ' + "9" * 5000 + "}"),
        (HEADER, "[" * 100_000),
        (HEADER, '{"method": "\\ud800", "finished": "x"}'),
        ("{}", json.dumps(LINE)),
        ("3", json.dumps(LINE)),
        ("[]", json.dumps(LINE)),
        ("", json.dumps(LINE)),
    ],
    ids=lambda text: text[:60],
)
def test_damaged_lines_are_refused(tmp_path, header, line):
    file = tmp_path / "study.jsonl"
    file.write_text(f"{HEADER}\n{json.dumps(LINE)}\n")
    assert read(file).results[0][1].metric == 0.5
    file.write_text(f"{header}\n{line}\n")
    with pytest.raises(D90Error, match=r"^'.*' is no file of `benchmarks.gpu_study run`: ."):
        read(file)


def test_a_file_of_another_kind_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("[1, 2]\n")
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(tmp_path / "notes.txt")])
    assert "is no file of" in capsys.readouterr().err
