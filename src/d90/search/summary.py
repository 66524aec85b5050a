"""The results of a study as one frozen value: everything that a report is made from.

`docs/report.md` describes each field of its JSON form.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from d90.errors import D90Error
from d90.search.criteria import (
    MAJORITY_CLASS,
    SMOOTH,
    check_criterion,
    check_criterion_of,
    collapse_floor,
    quantity_name,
    score_floor,
    scored,
)
from d90.search.curve import Point, curve
from d90.search.estimate import BandPoint
from d90.search.history import HistoryPoint
from d90.search.subspace_config import SubspaceConfig
from d90.search.trial import Status, Trial, TrialResult
from d90.utils.files import as_path
from d90.utils.reading import check_keys, check_ranges, parse_json, read_text

FORMAT = 4
"""Version of the JSON form; increased when a key changes its meaning or is removed."""

FIRST_PASSING = 2
"""The format whose d90 was the smallest d tried that passes."""

READ = (FIRST_PASSING, 3, FORMAT)
"""The formats that are read; the trials of those before 4 have no `skills`."""

FILE_NAME = "summary.json"

SUBSPACE_KEYS = ("method", "groups", "projection", "scale")
"""Fields of `Summary.subspace` that the JSON form has as keys of their own."""

TRIAL_KEYS: Mapping[str, Any] = {
    "d": int | None,
    "learning_rate": float,
    "seed": int,
    "metric": float | None,
    "train_metric": float | None,
    "status": Status,
    "seconds": float,
    "message": str,
    "metrics": Mapping[str, float | None],
    "skills": Mapping[str, float | None],
}
"""Keys of a trial in the JSON form and their types."""

RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("D", "d", "d90", "first_passing_d"), (1, 2**53)),
    **dict.fromkeys(("metric", "train_metric"), (-1, 1)),
    **dict.fromkeys(("majority", "full_metric", "threshold"), (0, 1)),
    **dict.fromkeys(BandPoint._fields[1:], (0, 1)),
    "m": (0, 2**53),
    "target_fraction": (1e-9, 1),
    "learning_rate": (1e-30, 1e30),
    "seed": (0, 2**64 - 1),
    "seconds": (0, 1e12),
}
"""Smallest and largest values of the numbers in the JSON form."""

HISTORY_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("d", "d90", "low", "high"), (1, 2**53)),
    **{name: RANGES[name] for name in ("learning_rate", "seed")},
}

_RowT = TypeVar("_RowT", BandPoint, HistoryPoint)

REQUIRED = ("majority", "status")

MODEL_KEYS = ("model", "task", "D", *SUBSPACE_KEYS)
"""Keys of a study of a model on a task; one of a user's own training has `objective` instead."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One study: what was measured, how, every run, and d90 or the reason that there is none.

    Attributes:
        model, task: as the user named them.
        objective: name of a user's own training (`d90.search`), which has no model, task or
            subspace; else empty.
        metric: name of the metric of the task.
        criterion: what trials are scored by: the metric (the default), `brier` or `nll`. The full
            metric, threshold, curve and band are scores by it (`d90.search.criteria`).
        criterion_of: what the target is a fraction of: `metric` or `gain`.
        subspace: method, groups, projection and scale; each trial sets its own d and seed. None of
            an objective.
        m: number of the SAID scales; None in DID.
        D: number of parameters of the model, None if unknown; `family`: its model type, such as
            `roberta`.
        examples: number of training examples (`train`), and of the training and evaluation
            examples that the metrics were measured on (`train_metric`, `metric`).
        target_fraction: fraction of the full metric that counts as reaching it.
        majority: metric of the best constant predictor, or of the pretrained model where that is
            the better one; `reference`: which it is.
        initial: the scores of the pretrained model, by name, where the floor may be its.
        full_metric, threshold: what full fine-tuning reaches, and what passes.
        d90, interval: the posterior's median and 95% interval (an end that is None is open); None
            if there is none.
        first_passing_d: the smallest d tried that reaches the threshold: the paper's d90.
        band: the posterior of the curve.
        history: d90 after each run, in their order, where they were chosen by it.
        status: `ok`, or why there is no d90 (`d90.search.estimate`); `reason` explains it.
        warnings: what a reader must know before using the estimate.
        trials: every finished run.
        settings: the settings that define the study.
        command: the command line that runs it again.
        versions: package name -> version.
        started, finished: ISO 8601 times.
    """

    majority: float
    status: str
    model: str = ""
    task: str = ""
    objective: str = ""
    subspace: SubspaceConfig | None = None
    D: int | None = None
    m: int | None = None
    family: str = ""
    examples: Mapping[str, int] = field(default_factory=dict)
    metric: str = "accuracy"
    criterion: str = ""
    criterion_of: str = "metric"
    reference: str = MAJORITY_CLASS
    initial: Mapping[str, float | None] = field(default_factory=dict)
    target_fraction: float = 0.9
    full_metric: float | None = None
    threshold: float | None = None
    d90: int | None = None
    interval: tuple[int | None, int | None] | None = None
    first_passing_d: int | None = None
    band: tuple[BandPoint, ...] = ()
    history: tuple[HistoryPoint, ...] = ()
    reason: str = ""
    warnings: tuple[str, ...] = ()
    trials: tuple[TrialResult, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    started: str | None = None
    finished: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "criterion", self.criterion or self.metric)

    @property
    def title(self) -> str:
        """What was trained: `minilm-l6 on mrpc, SAID`, or the name of the objective."""
        return self.objective or f"{self.model} on {self.task}, {self.method.upper()}"

    @property
    def method(self) -> str:
        """`did` or `said`; empty of an objective."""
        return "" if self.subspace is None else self.subspace.method

    @property
    def quantity(self) -> str:
        """What is measured: `d90`, or for another criterion than the paper's `d90[brier]`."""
        return quantity_name(self.target_fraction, self.criterion, self.metric, self.criterion_of)

    @property
    def is_papers(self) -> bool:
        """Whether the criterion is the paper's: a fraction of the metric itself."""
        return self.criterion not in SMOOTH and self.criterion_of == "metric"

    @property
    def score_name(self) -> str:
        """What the curve is of: the metric, or `brier skill`."""
        return f"{self.criterion} skill" if self.criterion in SMOOTH else self.metric

    @property
    def floor(self) -> float:
        """Score of the best constant predictor by the criterion."""
        return score_floor(self.criterion, self.majority)

    @property
    def curve(self) -> tuple[Point, ...]:
        """The best score at each d, from the trials (`d90.search.curve`)."""
        return curve(self.scored_trials)

    @property
    def scored_trials(self) -> list[TrialResult]:
        """The trials with their scores by the criterion as their `metric`."""
        floor = collapse_floor(self.majority, self.reference)
        return scored(self.trials, self.criterion, floor)

    @property
    def ordered_trials(self) -> list[TrialResult]:
        """The trials sorted by d, learning rate and seed; full fine-tuning first."""
        return sorted(self.trials, key=lambda result: result.trial.sort_key)

    def to_json(self) -> str:
        """The content of `summary.json`: keys in fixed order, one trial per line, NaN as null."""
        return _dump({key: _plain(value) for key, value in self._to_dict().items()})

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """The summary that `to_json` wrote.

        Raises:
            D90Error: if the text is not JSON or of another format; if a key is missing, of another
                type or out of its range.
        """
        data = _parse(text)
        known = [f.name for f in fields(cls)]
        check_keys(data, {"trials": tuple[Any, ...]}, ["trials"], FILE_NAME)
        trials = tuple(map(_result, data["trials"]))
        lists = {"trials": Any, **dict.fromkeys(("band", "history"), tuple[Any, ...])}
        hints = {**get_type_hints(cls), **dict.fromkeys(SUBSPACE_KEYS, str), **lists}
        keys = ["objective"] if "objective" in data else MODEL_KEYS
        hints |= {"D": int | None if "objective" in data else int}
        check_keys(data, hints, ["warnings", "interval", *keys, *REQUIRED], FILE_NAME)
        check_ranges({**data, "metric": None}, RANGES, FILE_NAME)  # `metric` is a name here.
        subspace = None if "objective" in data else _subspace(data)
        _check_criteria(data)
        values = {name: data[name] for name in known if name in data}
        interval = None if data["interval"] is None else tuple(data["interval"])
        values |= {"warnings": tuple(data["warnings"]), "interval": interval}
        values["band"] = tuple(
            _row(BandPoint, keys, RANGES, "band") for keys in data.get("band", ())
        )
        values["history"] = tuple(
            _row(HistoryPoint, keys, HISTORY_RANGES, "history") for keys in data.get("history", ())
        )
        if data["format"] == FIRST_PASSING:
            values["first_passing_d"] = data.get("d90")
        summary = cls(**{**values, "trials": trials, "subspace": subspace})
        if summary.d90 is not None and not summary.curve:
            raise D90Error(f"{FILE_NAME}: it has a d90, but no trial in a subspace that trained.")
        return summary

    @classmethod
    def load(cls, path: str | Path) -> Summary:
        """The summary in a file, or in the `summary.json` of a folder.

        Raises:
            D90Error: if the file cannot be read or is not a summary.
        """
        path = as_path(path, "study")
        file = path / FILE_NAME if path.is_dir() else path
        try:
            text = read_text(file, FILE_NAME)
        except D90Error as error:
            raise D90Error(
                f"cannot read '{file}': expected the {FILE_NAME} that `d90 measure` writes, or "
                f"its folder ({error})."
            ) from error
        return cls.from_json(text)

    def _to_dict(self) -> dict[str, Any]:
        """Key -> value of the JSON form, in its order."""
        return {
            "format": FORMAT,
            **self._trained(),
            "examples": self.examples,
            "target_fraction": self.target_fraction,
            "criterion": self.criterion,
            "criterion_of": self.criterion_of,
            "majority": self.majority,
            **({} if self.reference == MAJORITY_CLASS else {"reference": self.reference}),
            **({"initial": self.initial} if self.initial else {}),
            "full_metric": self.full_metric,
            "threshold": self.threshold,
            "d90": self.d90,
            "interval": self.interval,
            "first_passing_d": self.first_passing_d,
            "status": self.status,
            "reason": self.reason,
            "warnings": self.warnings,
            "settings": self.settings,
            "command": self.command,
            "versions": self.versions,
            "started": self.started,
            "finished": self.finished,
            "curve": [{"d": point.d, "metric": point.best} for point in self.curve],
            "band": [point._asdict() for point in self.band],
            "history": [point._asdict() for point in self.history],
            "trials": [_trial_keys(result) for result in self.ordered_trials],
        }

    def _trained(self) -> dict[str, Any]:
        """The keys that say what was trained."""
        if self.subspace is None:
            return {"objective": self.objective, "metric": self.metric, "D": self.D}
        return {
            "model": self.model,
            "task": self.task,
            "metric": self.metric,
            "method": self.subspace.method,
            "groups": self.subspace.groups,
            "m": self.m,
            "projection": self.subspace.projection,
            "scale": self.subspace.scale,
            "D": self.D,
            "family": self.family,
        }


def load_summaries(paths: Sequence[Path]) -> list[Summary]:
    """The summaries in files and folders, at any depth; of equal ones, the first.

    Raises:
        D90Error: a path does not exist or has no summary, or a summary is damaged.
    """
    summaries: dict[str, Summary] = {}
    for path in paths:
        files = sorted(path.rglob(FILE_NAME)) if path.is_dir() else [path]
        if not files:
            raise D90Error(
                f"'{path}' has no {FILE_NAME} at any depth: give the report of a `d90 measure`, "
                "or a folder of several."
            )
        for file in files:
            summary = Summary.load(file)
            summaries.setdefault(summary.to_json(), summary)
    return list(summaries.values())


def _trial_keys(result: TrialResult) -> dict[str, Any]:
    return {
        "d": result.trial.d,
        "learning_rate": result.trial.learning_rate,
        "seed": result.trial.seed,
        "metric": result.metric,
        "train_metric": result.train_metric,
        "status": result.status,
        "seconds": result.seconds,
        "message": result.message,
        "metrics": result.metrics,
        "skills": result.skills,
    }


def _result(keys: Any) -> TrialResult:
    required = [name for name in TRIAL_KEYS if name not in ("message", "metrics", "skills")]
    keys = check_keys(keys, TRIAL_KEYS, required, f"{FILE_NAME}, trials")
    check_ranges(keys, RANGES, f"{FILE_NAME}, trials")
    return TrialResult(
        Trial(keys["d"], keys["learning_rate"], keys["seed"]),
        keys["status"],
        keys["metric"],
        keys["train_metric"],
        keys["seconds"],
        keys.get("metrics", {}),
        message=keys.get("message", ""),
        skills=keys.get("skills", {}),
    )


def _row(
    kind: type[_RowT], keys: Any, ranges: Mapping[str, tuple[float, float]], name: str
) -> _RowT:
    """A named tuple from an object of a list of the JSON form."""
    check_keys(keys, get_type_hints(kind), list(get_type_hints(kind)), f"{FILE_NAME}: {name}")
    check_ranges(keys, ranges, f"{FILE_NAME}: {name}")
    return kind(**{field: keys[field] for field in get_type_hints(kind)})


def _subspace(data: Mapping[str, Any]) -> SubspaceConfig:
    try:
        return SubspaceConfig(**{name: data[name] for name in SUBSPACE_KEYS})
    except D90Error as error:
        raise D90Error(f"{FILE_NAME}: {error}") from error


def _check_criteria(data: Mapping[str, Any]) -> None:
    try:
        check_criterion(data.get("criterion"), data.get("metric", "accuracy"))
        check_criterion_of(data.get("criterion_of", "metric"))
    except D90Error as error:
        raise D90Error(f"{FILE_NAME}: {error}") from error


def _plain(value: Any) -> Any:
    """The value in JSON's types; NaN and infinities, which JSON lacks, become None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):  # A path may have bytes that are no UTF-8.
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return _plain(str(value))
    return [_plain(item) for item in value]


def _dump(data: Mapping[str, Any]) -> str:
    """JSON with one line per key, and per item of a list of objects: short and easy to diff."""
    lines = [f"  {json.dumps(key)}: {_value(value)}" for key, value in data.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _value(value: Any) -> str:
    def one_line(item: Any) -> str:
        return json.dumps(item, ensure_ascii=False, allow_nan=False)

    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n    " + ",\n    ".join(map(one_line, value)) + "\n  ]"
    return one_line(value)


def _parse(text: str) -> dict[str, Any]:
    data = parse_json(text, FILE_NAME)
    if not isinstance(data, dict) or data.get("format") not in READ:
        version = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise D90Error(
            f"{FILE_NAME} has format {version!r:.20}: this d90 reads format {FORMAT}; "
            "measure again, or use the d90 that wrote it."
        )
    return data
