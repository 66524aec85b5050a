"""A study for a few minutes of a GPU: MiniLM-L6 on MRPC in DID and SAID, and full fine-tuning.

    PYTHONPATH=src D90_LIBRARY=.gpu/libd90.so python3 -m benchmarks.gpu_study run mrpc.jsonl
    python -m benchmarks.gpu_study report mrpc.jsonl --output reports

`run` needs `.gpu/` (`scripts/prepare_gpu.sh`), and neither a store nor anything installed beyond
torch and transformers. The first line of its file says what is run, and every other line is a
trial, written when it ends. Trials run seed by seed, so that a run that is cut off leaves whole
seeds, and the same command resumes it. `report` writes the report of `d90 measure` for each method;
it needs an installed d90 and the same `.gpu/`. `--device cpu` rehearses on a few examples.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_files, machine
from d90.errors import D90Error, single_line
from d90.executors import make_executor
from d90.experiments.problem import Problem, load_problem
from d90.search.protocols import ListProtocol
from d90.search.trial import Trial, TrialResult
from d90.training import Progress, TrainConfig
from d90.utils.files import atomic_write
from d90.utils.reading import check_fields, check_keys, parse_json

METHODS = ("did", "said")
HEADER = ("settings", "identity", "versions", "started")
"""Keys of the first line: what is run, on which data, with which packages, and since when."""

PACKAGES = ("torch", "transformers", "accelerate", "scikit-learn")
"""Packages whose versions a report names."""


@dataclass(frozen=True)
class Settings:
    """What is run; fixed before anything is, and the first line of the file.

    Attributes:
        task: a folder of `.gpu/`.
        learning_rate: in subspaces, which `d90.training` scales with d. 0.008 is within one
            standard error of the best at every d that `docs/results` measured.
        baseline_learning_rate: of full fine-tuning.
        workers: concurrent trials of each method, all on one GPU.
        max_samples: of each split; None for all of them.
    """

    task: str = "mrpc"
    projection: str = "fastfood"
    dims: tuple[int, ...] = (100, 200, 500, 1_000, 2_000, 5_000)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    learning_rate: float = 0.008
    baseline_learning_rate: float = 1e-4
    epochs: int = 10
    batch_size: int = 32
    max_length: int = 128
    precision: str = "bf16"
    workers: int = 2
    max_samples: int | None = None


STUDY = Settings()
REHEARSAL = Settings(
    dims=(100, 200), seeds=(0, 1), epochs=1, batch_size=8, max_length=16, workers=1, max_samples=16
)


def load(settings: Settings, method: str, folder: Path) -> Problem:
    """The model in `folder` on its task."""
    return load_problem(
        str(folder / gpu_files.MODEL),
        folder / settings.task,
        method=method,
        projection=settings.projection,
        dims=settings.dims,
        training=TrainConfig(
            epochs=settings.epochs, batch_size=settings.batch_size, precision=settings.precision
        ),
        max_length=settings.max_length,
        max_train_samples=settings.max_samples,
        max_eval_samples=settings.max_samples,
    )


def protocol(settings: Settings) -> ListProtocol:
    """Every trial of a method; the baseline is run with every seed, too."""
    return ListProtocol(
        dims=settings.dims,
        learning_rates=(settings.learning_rate,),
        baseline_learning_rates=(settings.baseline_learning_rate,),
        seeds=settings.seeds,
    )


def trials(settings: Settings) -> Iterator[tuple[str, Trial]]:
    """(method, trial), seed by seed; the baseline, which both methods share, runs as DID."""
    for seed in settings.seeds:
        yield METHODS[0], Trial(None, settings.baseline_learning_rate, seed)
        for d in settings.dims:
            for method in METHODS:
                yield method, Trial(d, settings.learning_rate, seed)


@dataclass(frozen=True)
class Recorded:
    """What the file of a study holds.

    Attributes:
        header: its first line: the keys of `HEADER`.
        lines: of the trials: method, result, and when it finished.
        results: (method, result) of each line.
    """

    header: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]] = ()
    results: Sequence[tuple[str, TrialResult]] = ()

    @property
    def finished(self) -> str:
        """When the last trial ended."""
        return self.lines[-1]["finished"] if self.lines else self.header["started"]


def read(path: Path) -> Recorded:
    """Read the file of a study; a last line that was cut off is ignored.

    Raises:
        D90Error: it cannot be read, or is something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        first, *lines = (parse_json(line, "a line") for line in whole.splitlines())
        for line in lines:
            keys = {"method": str, "finished": str}
            check_keys(line, keys, [*keys], "a line")
            check_fields(Trial, line["result"]["trial"], "a line")
        results = [(line["method"], TrialResult.from_json(line["result"])) for line in lines]
        for _, result in results:
            result.to_json()  # raises what a value of another type does
        return Recorded({name: first[name] for name in HEADER}, lines, results)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise D90Error(
            f"'{path}' is no file of `benchmarks.gpu_study run`: {single_line(error)}"
        ) from error


def header(settings: Settings, problem: Problem) -> dict[str, Any]:
    """The first line of the file of a study that starts now, on this machine."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    packages = {name: machine.package_version(name) for name in PACKAGES}
    return {
        "settings": asdict(settings),
        "identity": problem.identity,
        "versions": {"python": platform.python_version(), **packages, "device": device},
        "started": _now(),
    }


def start(path: Path, first_line: Mapping[str, Any]) -> Recorded:
    """Create the file, or continue it.

    Raises:
        D90Error: it has the trials of other settings or data.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        append(path, first_line)
        return Recorded(first_line)
    recorded = read(path)
    for name in ("settings", "identity"):
        if recorded.header[name] != json.loads(json.dumps(first_line[name])):
            raise D90Error(f"'{path}' has trials of other {name}: give the name of a new file.")
    # Without a line that was cut off.
    lines = [json.dumps(line) for line in (recorded.header, *recorded.lines)]
    atomic_write(path, "\n".join(lines) + "\n")
    return recorded


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Append a line; it is on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def run(settings: Settings, path: Path, folder: Path) -> None:
    """Run what the file lacks.

    Raises:
        D90Error: the folder is not prepared, the file is of another study, or a worker cannot run.
    """
    problems = {method: load(settings, method, folder) for method in METHODS}
    recorded = start(path, header(settings, problems[METHODS[0]]))
    done = {(method, result.trial) for method, result in recorded.results}
    left = [item for item in trials(settings) if item not in done]
    print(f"{len(done)} trials are in '{path}', {len(left)} are left", flush=True)
    with ExitStack() as stack:
        executors = {
            method: stack.enter_context(
                make_executor("processes", problem.runner, workers=settings.workers)
            )
            for method, problem in problems.items()
        }
        futures: dict[Future[TrialResult], str] = {
            executors[method].submit(trial, _ignore): method for method, trial in left
        }
        for future in as_completed(futures):
            method, result = futures[future], future.result()
            append(path, {"method": method, "result": result.to_json(), "finished": _now()})
            print(_line(method, result), flush=True)


def _ignore(progress: Progress) -> None:
    pass


def _line(method: str, result: TrialResult) -> str:
    trial = result.trial
    name = "full fine-tuning" if trial.is_full else f"{method.upper()}, d = {trial.d:,}"
    metric = "" if result.metric is None else f" {result.metric:.4f}"
    return (
        f"seed {trial.seed}, {name}: {result.status}{metric} in {result.seconds:.1f} s "
        f"{result.message}".rstrip()
    )


def report(path: Path, folder: Path, output: Path) -> None:
    """Write the report of each method from the file, as `d90 measure` does.

    Raises:
        D90Error: the file cannot be read, has no trial, or is of other data than `folder`.
    """
    # These need the store's packages, which a machine that only runs the trials lacks.
    from d90.experiments.measure import summarize
    from d90.experiments.study import Study
    from d90.report import study_document, write_report

    recorded = read(path)
    first = recorded.header
    settings = Settings(**{name: _tuples(value) for name, value in first["settings"].items()})
    for method in METHODS:
        problem = load(settings, method, folder)
        if problem.identity["data"] != first["identity"]["data"]:
            raise D90Error(f"'{path}' is of other data than '{folder}': prepare it as it was.")
        results = [r for name, r in recorded.results if name == method or r.trial.is_full]
        summary = summarize(
            Study(problem, protocol(settings)),
            results,
            command=f"python -m benchmarks.gpu_study run {path.name}",
            started=first["started"],
        )
        # The machine is that of the runs.
        summary = replace(
            summary,
            settings={**summary.settings, **first["identity"]},
            versions=first["versions"],
            finished=recorded.finished,
        )
        page = write_report(summary, output / f"{settings.task}-{method}")
        print(f"{method.upper()}: {study_document(summary).answer}\n{page}")


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _use(device: str) -> Settings:
    """The settings for a device, which is the only one that this process and its workers see."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return REHEARSAL
    if not torch.cuda.is_available():
        raise D90Error("no GPU: run this where there is one, or rehearse with --device cpu.")
    return STUDY


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run the trials that the file lacks")
    running.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    reporting = commands.add_parser("report", help="write the reports")
    reporting.add_argument("--output", type=Path, default=Path("reports"), help="folder (reports)")
    folder = Path(os.path.relpath(gpu_files.FOLDER))
    for command in (running, reporting):
        command.add_argument("file", type=Path, help="JSON lines, one for each trial")
        command.add_argument("--folder", type=Path, default=folder, help=f"prepared ({folder})")
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            run(_use(options.device), options.file, options.folder)
        else:
            report(options.file, options.folder, options.output)
    except D90Error as error:
        print(f"gpu_study: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
