"""The benchmarks run and write what they should; no time is tested."""

import json
import math

import pytest
import torch
from benchmarks.__main__ import app
from benchmarks.entries import Entry
from benchmarks.full_length import FullLengthFastfood
from typer.testing import CliRunner

from benchmarks import entries, gpu_cases, machine, report, tables


@pytest.mark.slow
def test_a_quick_run_writes_entries_and_figures(tmp_path):
    threads = torch.get_num_threads()
    path = tmp_path / "bench.json"
    try:
        done = CliRunner().invoke(app, ["--quick", "--threads", "1", "--output", str(path)])
    finally:
        torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    machine, *measured = json.loads(path.read_text())
    assert machine["name"] == "machine" and machine["about"]["quick"]
    assert machine["about"]["skipped"] == {}
    assert len({entry["name"] for entry in measured}) == len(measured)
    kinds = {entry["about"]["kind"] for entry in measured}
    assert {"kernel", "scaling", "memory", "step", "step ratio"} <= kinds
    with_target = {entry["about"]["kind"] for entry in measured if "at_most" in entry}
    assert {"kernel", "memory", "step ratio"} <= with_target
    for entry in measured:
        assert 0 < entry.get("low", entry["value"]) <= entry["value"] < math.inf, entry
        assert entry["value"] <= entry.get("high", math.inf), entry
        met = entry["value"] <= entry["at_most"] if "at_most" in entry else None
        assert entry.get("holds") is met, entry
    assert list(tmp_path.glob("bench-figures/*.svg"))
    text = tables.markdown(entries.read(path))
    assert "## Targets" in text and "## Training" in text


def test_a_machine_without_a_gpu_says_so():
    assert gpu_cases.cases(quick=True) == []
    entry = machine.describe(quick=True, skipped={})
    assert entry.about["gpu"] is None
    assert "## On a GPU\n\nNot measured: the machine has no GPU." in tables.markdown([entry])


def test_the_cases_of_a_gpu_have_tables():
    about = {**machine.describe(quick=True, skipped={}).about, "gpu": "Quick GPU"}
    measured = [Entry("machine", 1, "threads", about=about)]
    for case in gpu_cases.cases_on("cpu", quick=True):
        measured += case.run()
    assert len({entry.name for entry in measured}) == len(measured)
    text = tables.markdown(measured)
    _, section = text.split("## On a GPU: Quick GPU")
    kernel = entries.find(measured, projection="onehot", operation="adjoint", d=1_000)[0]
    assert f"| onehot adjoint |  | {tables.number(kernel.value)} |" in section
    assert kernel.at_most == 2 and kernel.name in text
    step = entries.find(measured, kind="GPU step", method="full AdamW")[0]
    assert f"### {step.about['model']}\n" in section
    assert f"| full AdamW | {tables.number(step.value)} |" in section


def test_a_pattern_without_cases_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["--only", "nothing-like-it"])
    assert done.exit_code == 2
    assert "--list" in done.output


def test_an_interrupted_run_writes_nothing(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.kernels.side_by_side", interrupt)
    path = tmp_path / "bench.json"
    done = CliRunner().invoke(app, ["--quick", "--only", "kernels", "--output", str(path)])
    assert done.exit_code != 0
    assert not list(tmp_path.iterdir())


def test_entries_survive_the_file(tmp_path):
    path = tmp_path / "bench.json"
    written = [Entry("a", 1.23456, "copies", at_most=2.5, low=1, high=2, about={"d": 3})]
    entries.write(path, written)
    assert entries.read(path) == written
    assert json.loads(path.read_text())[0]["holds"] is True
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]


def test_only_what_is_between_the_marks_is_replaced():
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.replace_section(text, "new")
    assert once == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.replace_section(once, "new") == once
    with pytest.raises(ValueError, match="marks"):
        report.replace_section("no marks", "new")


def test_the_full_length_fastfood_is_adjoint_to_itself():
    P = FullLengthFastfood(d=5, n=64)
    z, g = torch.randn(5), torch.randn(64)
    step = P.add_projected(z, torch.zeros(64))
    torch.testing.assert_close(step @ g, z @ P.adjoint(g))
    columns = torch.stack([P.add_projected(e, torch.zeros(64)) for e in torch.eye(5)], dim=1)
    torch.testing.assert_close(columns.norm(dim=0), torch.ones(5))
