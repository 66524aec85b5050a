"""An adaptive study that is killed again and again ends as one that is left alone."""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.helpers.simulated import WORLD, Workers, problem_of

from d90.experiments.measure import run_study
from d90.experiments.study import Study
from d90.search.protocols import AdaptiveProtocol, ListProtocol
from d90.search.summary import Summary
from d90.storage.store import Store

WORKERS = (2, 1, 3, 1, 2)
"""Of each session that is killed: the first one's decide the rounds."""
ADAPTIVE = AdaptiveProtocol(budget=14, interval_ratio=1.01)
LISTED = ListProtocol(dims=(55, 2000), learning_rates=(0.006,))


def run(path: Path, workers: int, connection: Connection) -> None:
    """Resume the study in a process of its own, and send the number of each trial that starts."""
    executor = Workers(workers, lambda: connection.send(len(executor.submitted)))
    summary = run_study(Study(problem_of(WORLD), ADAPTIVE), Store(path), executor=executor)
    connection.send(summary)


def test_a_study_killed_five_times_ends_as_one_left_alone(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([run.__module__])
    draw = random.Random(0)

    def resume(path: Path, workers: int, *, kill: bool) -> Summary | None:
        """The summary; None if it was killed before it ended."""
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(path, workers, theirs))
        process.start()
        theirs.close()
        after, summary = draw.randrange(2), None
        try:
            while (message := ours.recv()) != after or not kill:
                if isinstance(message, Summary):
                    return message
        except EOFError:
            raise AssertionError("the study ended without a summary") from None
        else:
            time.sleep(draw.uniform(0, 0.05))
            process.kill()
        finally:
            process.join()
        return summary

    stores = [tmp_path / "alone.db", tmp_path / "killed.db"]
    for path in stores:
        run_study(Study(problem_of(WORLD), LISTED), Store(path), executor=Workers())
    alone = resume(stores[0], 2, kill=False)
    for session, workers in enumerate(WORKERS):
        assert resume(stores[1], workers, kill=True) is None, "it ended before the last kill"
        # Results that others add change nothing: the list of those taken over was saved.
        more = ListProtocol(dims=(100 + session,), learning_rates=(0.006,))
        run_study(Study(problem_of(WORLD), more), Store(stores[1]), executor=Workers())
    killed = resume(stores[1], 1, kill=False)
    assert alone is not None
    assert killed is not None
    assert len(alone.trials) == len(LISTED.dims) + ADAPTIVE.budget
    assert killed.trials == alone.trials
    assert (killed.d90, killed.interval) == (alone.d90, alone.interval)
    assert killed.band == alone.band
