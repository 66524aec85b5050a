"""Studies that are disturbed at random moments, and compared with one that was left alone.

After every fault the same command is given until it ends by itself. Then nothing that was finished
may be lost or changed, nothing may have been finished twice, standard error must have said what
happened and no more, and the answer must be that of the undisturbed study.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.faults import cluster
from tests.faults.kinds import GROUNDS, KINDS, Kind, Surroundings
from tests.faults.study import Command, Study, Violation, check_complaints
from tests.helpers import disks, postgres, tiny
from transformers.utils.logging import disable_progress_bar

SEARCH = (
    *("--dims", "1,3,10,30", "--learning-rates", "0.001,0.003", "--seeds", "0,1"),
    *("--baseline-learning-rates", "0.003,0.01", "--head-seed", "2"),
)
FEW = (
    *("--dims", "1,10", "--learning-rates", "0.001,0.003", "--seeds", "0,1"),
    *("--baseline-learning-rates", "0.003,0.01", "--head-seed", "2"),
)
TRAINING = ("--max-steps", "24", "--batch-size", "8", "--max-length", "16", "--precision", "no")

BETWEEN = (1.0, 4.0)
"""Runs between two faults of one command, least and most."""

DEATHS = 2
"""Workers killed in one command, at most: a run whose workers died three times has failed."""

Say = Callable[[str], None]


@dataclass
class World:
    """What the machine offers: a tiny model, a task, and what studies can stand on.

    Attributes:
        folder: for everything that is written.
        stack: ends what was started.
        search: options of `d90 measure` that say which runs to make.
    """

    folder: Path
    stack: ExitStack
    search: Sequence[str]
    studies: int = 0

    @cached_property
    def measure(self) -> tuple[str, ...]:
        """Arguments of `d90 measure`: model, task, search, training."""
        disable_progress_bar()
        model, task = self.folder / "tiny model", self.folder / "toy task"
        tiny.write_tiny_model(self.folder / "raw")
        tiny.write_ready_model(self.folder / "raw", model)
        tiny.write_task(tiny.toy_task(), task)
        return (str(model), str(task), *self.search, *TRAINING)

    @cached_property
    def server(self) -> postgres.Server:
        return self.stack.enter_context(postgres.running())

    @cached_property
    def cluster(self) -> cluster.RayNodes:
        return self.stack.enter_context(cluster.running())

    def alone(self) -> Study:
        """The study that is left alone."""
        folder = self.folder / "alone"
        folder.mkdir()
        return Study(self.measure, folder, str(folder / "d90.db"))

    @contextmanager
    def study(self, ground: str) -> Iterator[tuple[Study, Surroundings]]:
        """A new study on that ground, and what it stands on."""
        self.studies += 1
        about, around = GROUNDS[ground], Surroundings()
        with ExitStack() as stack:
            if disks.missing():
                folder = self.folder / f"study {self.studies}"
                folder.mkdir()
            else:
                disk = stack.enter_context(disks.small_disk(8))
                folder, around = disk.folder, Surroundings(disk=disk)
            store, executor = str(folder / "d90.db"), about["executor"]
            if about["store"] == "server":
                database = f"faults_{self.studies}"
                self.server.execute(f"CREATE DATABASE {database}")
                store = self.server.url(database)
                around = replace(around, server=self.server, database=database)
            if "Ray" in ground:
                executor = (*executor, "--address", self.cluster.address)
                around = replace(around, cluster=self.cluster)
            yield Study(self.measure, folder, store, executor), around


def missing(ground: str) -> str | None:
    """Why there can be no study on that ground here, or None."""
    if GROUNDS[ground]["store"] == "server" and postgres.missing():
        return postgres.missing()
    return cluster.missing() if "Ray" in ground else None


def kinds_on(ground: str) -> list[str]:
    """What can be taken away on that ground, on this machine."""
    kinds = [*GROUNDS[ground]["kinds"]]
    return [kind for kind in kinds if kind != "disk full" or not disks.missing()]


@dataclass
class Disturbed:
    """A study under disturbance.

    Attributes:
        study: it.
        around: what it stands on.
        kinds: of the faults.
        draw: decides moments and kinds.
        alone: the answer, and the seconds of a run, of the study that was left alone.
        tell: told of every fault.
        most: faults, at most.
        count: of the faults so far, by kind.
    """

    study: Study
    around: Surroundings
    kinds: Sequence[str]
    draw: random.Random
    alone: Alone
    tell: Say
    most: int
    count: Counter[str] = field(default_factory=Counter)
    _known: dict[Any, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Disturb it until it ends, and compare.

        Raises:
            Violation: what no fault may do.
        """
        is_over = False
        while not is_over:
            command = self.study.start()
            try:
                is_over = self._session(command)
            finally:
                command.stop()
        answer = self.study.answer()
        for name, expected in self.alone.answer.items():
            if answer[name] != expected:
                raise Violation(f"{name} differs: {answer[name]} in place of {expected}")
        twice = [key for key, times in self.study.keys().items() if times > 1]
        if twice or len(self.study.keys()) != len(self.alone.answer["trials"]):
            raise Violation(f"{len(self.study.keys())} runs, finished twice: {twice}")

    def _session(self, command: Command) -> bool:
        """One command, until a fault ends it or it ends by itself; whether it has."""
        left = len(self.alone.answer["trials"]) - len(self._known)
        met: list[Kind] = []
        moment = self.draw.uniform(0, BETWEEN[1])
        while self.count.total() < self.most:
            if moment >= left or not command.runs_until(moment, self.alone.run_seconds):
                break
            moment += self.draw.uniform(*BETWEEN)
            deaths = sum(kind.is_death for kind in met)
            kinds = [k for k in self.kinds if deaths < DEATHS or not KINDS[k].is_death]
            name = self.draw.choice(kinds)
            self._look()
            if not KINDS[name].strike(command, self.around, self.draw):
                continue
            self.count[name] += 1
            met.append(KINDS[name])
            if KINDS[name].code is not None:
                self._ends(command, name, met)
                return False
            self.tell(f"{name:<20} {len(self._known):2} runs done: it goes on")
        self._expect(command, 0, met)
        self._look()
        return True

    def _ends(self, command: Command, name: str, met: Sequence[Kind]) -> None:
        code = KINDS[name].code
        assert code is not None
        self._expect(command, code, met)
        KINDS[name].repair(self.around)
        before = len(self._known)
        self._look()
        said = [line for line in command.complained if line.startswith("error")]
        self.tell(
            f"{name:<20} {before:2} runs done: code {code}, {len(self._known)} runs kept"
            f"{''.join(f'; {line}' for line in said)}"
        )

    def _expect(self, command: Command, code: int, met: Sequence[Kind]) -> None:
        found = command.end()
        if found != code:
            said = [*command.said[-2:], *command.complained[-3:]]
            raise Violation(f"exit code {found} in place of {code}; it said {said}")
        allowed = [pattern for kind in met for pattern in kind.may_say]
        # A driver that is killed may not have had the time to say what came before.
        must = [kind.says for kind in met if kind.says is not None]
        for says in must if code >= 0 else [None]:
            check_complaints(command, wanted=says, allowed=[*allowed, *must])
        if not must:
            check_complaints(command, wanted=None, allowed=allowed)

    def _look(self) -> None:
        """What was finished must be there as it was."""
        results = self.study.results()
        for trial, result in self._known.items():
            if trial not in results:
                raise Violation(f"{trial} was finished and is lost")
            if results[trial] != result:
                raise Violation(f"{trial} has changed: {results[trial]} was {result}")
        self._known = results


@dataclass(frozen=True)
class Alone:
    """The study that was left alone: its answer, and what a run takes."""

    answer: dict[str, Any]
    run_seconds: float


def leave_alone(study: Study) -> Alone:
    """Run a study without any fault.

    Raises:
        Violation: it fails by itself.
    """
    command = study.start()
    if command.end() != 0:
        raise Violation(f"the undisturbed study failed: {command.complained}")
    check_complaints(command, wanted=None, allowed=())
    return Alone(study.answer(), fmean(r["seconds"] for r in study.results().values()))


def disturb(
    folder: Path, *, faults: int, seed: int, grounds: Sequence[str], is_small: bool, say: Say
) -> tuple[Counter[str], list[str]]:
    """Faults by kind, and what they did that they may not.

    Args:
        folder: for everything that is written.
        faults: how many to make, at least.
        seed: of moments and kinds.
        grounds: keys of `GROUNDS`, in turn.
        is_small: studies of ten runs, not of eighteen.
        say: takes the lines of the report.
    """
    draw, count, violations = random.Random(seed), Counter[str](), list[str]()
    with ExitStack() as stack:
        world = World(folder, stack, FEW if is_small else SEARCH)
        alone = leave_alone(world.alone())
        runs = len(alone.answer["trials"])
        say(f"left alone: {runs} runs of {alone.run_seconds:.2f} s, d90 {alone.answer['d90']}")
        while count.total() < faults:
            ground = grounds[world.studies % len(grounds)]
            with world.study(ground) as (study, around):
                name = f"study {world.studies:2}, {ground:<17} "
                disturbed = Disturbed(
                    study,
                    around,
                    kinds_on(ground),
                    draw,
                    alone,
                    lambda line, name=name: say(name + line),
                    faults - count.total(),
                )
                try:
                    disturbed.run()
                    say(f"{name}the same answer after {disturbed.count.total()} faults")
                except Violation as violation:
                    violations.append(f"{name}{violation}")
                    say(f"{name}VIOLATION: {violation}")
                count += disturbed.count
    return count, violations
