"""The report as one HTML page that needs nothing else: `index.html`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from d90.report import wording
from d90.search.summary import Summary
from d90.search.trial import TrialResult

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)


def page(summary: Summary, svg: str) -> str:
    """The page, with the curve's SVG inside; every word of the summary is escaped."""
    entries = [("Settings", _entries(summary.settings)), ("Versions", _entries(summary.versions))]
    return TEMPLATES.get_template("page.html").render(
        summary=summary,
        answer=wording.answer(summary),
        sentence=wording.sentence(summary),
        alternative=_alternative(summary),
        svg=Markup(inline(svg)),
        facts=_facts(summary),
        rows=_rows(summary),
        lists=[(title, items) for title, items in entries if items],
    )


def inline(svg: str) -> str:
    """The SVG element alone: no XML prolog, no document type, no metadata (all name web pages)."""
    element = svg[svg.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)


def _facts(summary: Summary) -> list[tuple[str, str]]:
    groups = summary.groups or "none"
    if summary.m is not None:
        groups = f"{groups} (m = {summary.m})"
    facts = {
        "Model": f"{summary.model} (D = {summary.D:,})",
        "Task": summary.task,
        "Method": summary.method.upper(),
        "Groups": groups,
        "Projection": summary.projection,
        "Scale": summary.scale,
        "Metric": summary.metric,
        "Full fine-tuning": wording.number(summary.full_metric),
        "Threshold": f"{wording.number(summary.threshold)} ({summary.target_fraction:g} of it)",
        "Majority class": wording.number(summary.majority),
        "Status": summary.status,
        "Interval": wording.interval(summary),
        "Started": summary.started or "",
        "Finished": summary.finished or "",
    }
    return [(key, value) for key, value in facts.items() if value]


def _alternative(summary: Summary) -> str:
    """The figure for readers who cannot see it."""
    points = ", ".join(f"{wording.number(p.best)} at d = {p.d:,}" for p in summary.curve)
    return (
        f"{summary.metric} against d. {wording.answer(summary)}. Full fine-tuning "
        f"{wording.number(summary.full_metric)}, threshold {wording.number(summary.threshold)}, "
        f"majority class {wording.number(summary.majority)}. Best: {points or 'no run trained'}."
    )


def _rows(summary: Summary) -> list[dict[str, Any]]:
    results = summary.ordered_trials
    best: dict[int | None, float] = {}
    for result in results:
        if result.is_valid and result.metric is not None:
            best[result.trial.d] = max(result.metric, best.get(result.trial.d, result.metric))
    return [_row(result, best) for result in results]


def _row(result: TrialResult, best: Mapping[int | None, float]) -> dict[str, Any]:
    trial = result.trial
    return {
        "d": wording.dimension(trial.d),
        "learning_rate": f"{trial.learning_rate:g}",
        "seed": trial.seed,
        "metric": wording.number(result.metric),
        "train_metric": wording.number(result.train_metric),
        "seconds": f"{result.seconds:,.0f}",
        "status": f"{result.status}: {result.message}" if result.message else result.status,
        "best": result.is_valid and result.metric == best.get(trial.d),
        "lost": not result.is_valid,
    }


def _entries(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, _value(value)) for key, value in values.items()]


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
