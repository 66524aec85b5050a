"""The entries of a run as tables: the targets in the terminal, everything in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks import gpu_cases as gpu
from benchmarks.entries import Entry, find
from benchmarks.markdown import markdown_table
from benchmarks.training import PEAK, WEIGHTS_LIKE

Rows = Sequence[Sequence[str]]


def targets_table(entries: Sequence[Entry]) -> Table:
    """Every entry that has a target, and whether it meets it."""
    quick = find(entries, kind="machine", quick=True)
    note = " (quick: sizes too small for meaningful figures)" if quick else ""
    table = Table("", "measured", "at most", "", title=f"Targets{note}")
    for column in table.columns[1:3]:
        column.justify = "right"
        column.no_wrap = True
    for entry in entries:
        if entry.at_most is not None:
            verdict = "[green]met[/]" if entry.holds else "[red]missed[/]"
            measured = f"{number(entry.value)} {entry.unit}"
            table.add_row(entry.name, measured, number(entry.at_most), verdict)
    return table


def markdown(entries: Sequence[Entry]) -> str:
    """All tables of a run, each under its heading."""
    parts = [
        _machine(entries),
        *_part("Targets", "Medians, with quartiles in parentheses.", _targets(entries)),
        *_part("Apply and adjoint", "In copies of D floats.", _kernels(entries)),
        *_part("Growth with D", "Nanoseconds per weight.", _scaling(entries, "D")),
        *_part("Growth with d", "Nanoseconds per weight.", _scaling(entries, "d")),
        *_part("Extra memory of apply and adjoint", "In MB.", _memory(entries)),
        *[part for model in _models(entries) for part in _training(entries, model)],
        *_gpu(entries),
        *_skipped(entries),
    ]
    return "\n\n".join(parts)


def _part(title: str, note: str, rows: Rows) -> list[str]:
    return [f"## {title}", note, markdown_table(rows, rule="---:")] if len(rows) > 1 else []


def _machine(entries: Sequence[Entry]) -> str:
    machine = find(entries, kind="machine")[0]
    about = machine.about
    return (
        f"Measured on {about['date']}: {about['processor']}, {about['cores']} cores, "
        f"{about['memory_gb']:g} GB, kernels for {about['instructions']}, {machine.value:g} "
        f"threads; Python {about['python']}, torch {about['torch']}, transformers "
        f"{about['transformers']}, peft {about['peft']}; commit {about['commit']}."
    )


def _targets(entries: Sequence[Entry]) -> Rows:
    """A row for each target; one for all of the kernels' memory, which has its own table."""
    rows = [["", "measured", "at most", ""]]
    for entry in entries:
        if entry.at_most is not None and entry.about["kind"] != "memory":
            target = f"{number(entry.at_most)} {entry.unit}"
            rows.append([entry.name, _with_spread(entry), target, _verdict(entry)])
    memory = find(entries, kind="memory")
    if memory:
        worst = max(memory, key=lambda entry: entry.value / (entry.at_most or 1))
        title = f"the worst of {len(memory)}: {worst.name}"
        target = f"{number(worst.at_most or 0)} {worst.unit}"
        rows.append([title, _with_spread(worst), target, _verdict(worst)])
    return rows


def _verdict(entry: Entry) -> str:
    return "met" if entry.holds else "**missed**"


def _with_spread(entry: Entry) -> str:
    spread = ""
    if entry.low is not None and entry.high is not None:
        spread = f" ({number(entry.low)} to {number(entry.high)})"
    return f"{number(entry.value)} {entry.unit}{spread}"


def _kernels(entries: Sequence[Entry], kind: str = "kernel") -> Rows:
    selected = find(entries, kind=kind)
    dims = sorted({entry.about["d"] for entry in selected})
    rows = [["", *(f"d = {d:,}" for d in dims)]]
    for projection, op in _keys(selected, "projection", "operation"):
        line = find(selected, projection=projection, operation=op)
        about = line[0].about
        sample = f" (from {about['sample']:,} weights)" if about["sample"] != about["D"] else ""
        cells = (find(line, d=d) for d in dims)
        rows.append([f"{projection} {op}{sample}", *map(_cell, cells)])
    return rows


def _scaling(entries: Sequence[Entry], over: str) -> Rows:
    selected = find(entries, kind="scaling", over=over)
    lines = _keys(selected, "projection", "operation")
    rows = [[over, *(f"{op}, beside {p}" if op == "copy" else f"{p} {op}" for p, op in lines)]]
    for size in sorted({entry.about[over] for entry in selected}):
        row = find(selected, **{over: size})
        cells = (find(row, projection=p, operation=op) for p, op in lines)
        rows.append([f"{size:,}", *map(_cell, cells)])
    return rows


def _memory(entries: Sequence[Entry]) -> Rows:
    selected = find(entries, kind="memory")
    points = _keys(selected, "d", "D")
    rows = [["", *(f"d = {d:,}, D = {D:,}" for d, D in points)]]
    for projection, op in _keys(selected, "projection", "operation"):
        line = find(selected, projection=projection, operation=op)
        rows.append([f"{projection} {op}", *(_cell(find(line, d=d, D=D)) for d, D in points)])
    targets = (find(selected, d=d, D=D)[0].at_most for d, D in points)
    rows.append(["at most", *(number(target) for target in targets if target is not None)])
    return rows if selected else rows[:1]


def _training(entries: Sequence[Entry], model: str) -> list[str]:
    selected = find(entries, model=model)
    rows = [["", "step, ms", "full AdamW steps", "weights-like, MB", "at most, MB", "peak, MB"]]
    for (method,) in _keys(selected, "method"):
        line = find(selected, method=method)
        small = find(line, kind=WEIGHTS_LIKE)
        target = small[0].at_most if small else None
        kinds = ("step", "step ratio", WEIGHTS_LIKE, PEAK)
        step, times, weights, peak = (_cell(find(line, kind=kind)) for kind in kinds)
        rows.append([method, step, times, weights, "" if target is None else number(target), peak])
    return _part(f"Training {model}", "Time of a step, and memory.", rows)


def _gpu(entries: Sequence[Entry]) -> list[str]:
    """Everything that was measured on the GPU, or that there was none."""
    device = find(entries, kind="machine")[0].about.get("gpu")
    if device is None:
        return ["## On a GPU", "Not measured: the machine has no GPU."]
    parts = _part(f"On a GPU: {device}", "In copies of D floats.", _kernels(entries, gpu.KERNEL))
    for (model,) in _keys(find(entries, kind=gpu.STEP), "model"):
        selected = find(entries, model=model)
        rows = [["", "step, ms", "full AdamW steps", "peak, MB"]]
        for (method,) in _keys(selected, "method"):
            line = find(selected, method=method)
            cells = (_cell(find(line, kind=kind)) for kind in (gpu.STEP, gpu.RATIO, gpu.PEAK))
            rows.append([method, *cells])
        parts += [f"### {model}", markdown_table(rows, rule="---:")]
    return parts


def _skipped(entries: Sequence[Entry]) -> list[str]:
    skipped = find(entries, kind="machine")[0].about["skipped"]
    lines = "\n".join(f"* {name}: {reason}" for name, reason in skipped.items())
    return ["## Not measured", lines] if skipped else []


def _models(entries: Sequence[Entry]) -> list[str]:
    return [model for (model,) in _keys(find(entries, kind="step"), "model")]


def _keys(entries: Sequence[Entry], *names: str) -> list[tuple]:
    """The distinct combinations of these keys, in the order of the file."""
    return list(dict.fromkeys(tuple(entry.about[name] for name in names) for entry in entries))


def _cell(selected: Sequence[Entry]) -> str:
    return number(selected[0].value) if selected else ""


def number(value: float) -> str:
    """Three significant digits.

    >>> [number(value) for value in (0.01234, 1.5, 261.4, 32000.0)]
    ['0.0123', '1.50', '261', '32,000']
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}"
