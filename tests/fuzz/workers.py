"""Fuzzing in several processes, which may die of an input."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.fuzz import harness
from tests.fuzz.harness import Tally

PIECE = 100_000
"""Inputs after which a process begins anew, with another reader."""

STUCK_SECONDS = 120
"""Seconds after which a process that stands at one input is ended: it hangs outside Python."""


def fuzz(runs: dict[str, int], seed: int, processes: int) -> dict[str, Tally]:
    """So many inputs of each reader, in several processes."""
    pieces = [
        (reader, range(first, min(first + PIECE, count)))
        for reader, count in sorted(runs.items(), key=lambda item: item[1])
        for first in range(0, count, PIECE)
    ]
    tallies = {reader: Tally() for reader in runs}
    with tempfile.TemporaryDirectory() as folder:
        workers: list[Worker] = []
        while pieces or workers:
            while pieces and len(workers) < processes:
                workers.append(Worker(*pieces.pop(0), seed, Path(folder)))
            time.sleep(0.1)
            for worker in [worker for worker in workers if worker.is_over()]:
                workers.remove(worker)
                tally = tallies[worker.reader]
                tally.add(worker.tally())
                if worker.process.exitcode != 0:
                    number = worker.number()
                    what = f"the process ended with {worker.process.exitcode}: {worker.error()}"
                    tally.add(Tally(1, findings=[(number, "", what)]))
                    left = range(number + 1, worker.numbers.stop)
                    if left and worker.has_begun:
                        pieces.insert(0, (worker.reader, left))
    return tallies


class Worker:
    """A process that reads some of the inputs of a reader.

    It leaves three files: the number of the current input, tallies, and its standard error.
    """

    def __init__(self, reader: str, numbers: range, seed: int, folder: Path) -> None:
        self.reader, self.numbers = reader, numbers
        self._place = folder / f"{reader}-{numbers.start}"
        self._last, self._since = -1, time.monotonic()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_work, args=(reader, numbers, seed, self._place))
        self.process.start()

    @property
    def has_begun(self) -> bool:
        """Whether it came to its first input."""
        return self._place.exists()

    def number(self) -> int:
        """The number of the current input."""
        return int(_text(self._place) or self.numbers.start)

    def tally(self) -> Tally:
        """What became of its inputs, but for the last few of a process that died."""
        total = Tally()
        for line in _text(self._place.with_suffix(".jsonl")).splitlines():
            total.add(Tally(**json.loads(line)))
        return total

    def error(self) -> str:
        """The last line that the process wrote on standard error."""
        return _text(self._place.with_suffix(".log")).strip().rpartition("\n")[2]

    def is_over(self) -> bool:
        """Whether it has ended; ends it if it stands still."""
        number = self.number()
        if number != self._last:
            self._last, self._since = number, time.monotonic()
        if time.monotonic() - self._since > STUCK_SECONDS:
            self.process.kill()
            self.process.join()
        return not self.process.is_alive()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _work(reader: str, numbers: range, seed: int, place: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Warnings of transformers and backtraces of Rust.
    log = os.open(place.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 2)
    with place.with_suffix(".jsonl").open("w", encoding="utf-8", buffering=1) as file:
        for tally in harness.run(reader, seed, numbers, place):
            file.write(json.dumps(asdict(tally)) + "\n")
