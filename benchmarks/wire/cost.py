"""What an update takes when n workers make it together, calculated: compute, and one all-reduce.

    python -m benchmarks.wire.cost [--compute SECONDS] [--fixed BYTES]

The model of cost is that of Thakur, Rabenseifner and Gropp 2005: a delay for each round of messages
and a time for each byte. For n workers, B bytes each, a rate of r bits and a delay of t seconds:

    ring                   2 (n - 1) rounds         + 2 (n - 1) / n * 8 B / r
    halving and doubling   2 ceil(log2 n) rounds    + 2 (n - 1) / n * 8 B / r

gloo has the ring, and a round of it takes 2 t, because the receiver says that it is ready before it
is sent to; this was measured. MPI and NCCL halve and double, or go along a tree in as many rounds,
and send short messages unasked: t a round. Two workers swap their vectors in one round
(`d90.distributed.process_group`). Nothing overlaps with the compute, links share nothing, and
workers are equally fast.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from d90.distributed.process_group import SHORT

ROBERTA_LARGE = 355_361_794
"""D of RoBERTa-large with a head of two classes."""

COMPUTE = 0.1
"""Seconds a worker computes in an update: an assumption. 32 texts of 128 tokens through the 303
million weights outside the embeddings are 6 * 303e6 * 4096 = 7.4e12 operations, which a GPU that
sustains 75e12 a second does in a tenth of one."""

BYTES_A_NUMBER = 4
FRAMES = 1514 / 1448
"""Bytes of an Ethernet frame for each of the bytes that TCP carries in it."""

ASKED = 2
"""Delays of a round of gloo's."""

WORKERS = (2, 10, 100, 1_000, 10_000)
TRAINED: dict[str, int] = {
    "d = 200": 200,
    "d = 1,000": 1_000,
    "d = 10,000": 10_000,
    "full": ROBERTA_LARGE,
}


@dataclass(frozen=True)
class Wire:
    """A worker's link: bits a second each way, and seconds until a message arrives."""

    name: str
    rate: float
    delay: float


WIRES = (
    Wire("1 Mbit/s, 50 ms", 1e6, 50e-3),
    Wire("100 Mbit/s, 10 ms", 1e8, 10e-3),
    Wire("10 Gbit/s, 0.05 ms", 1e10, 0.05e-3),
)


def ring(size: float, workers: int, wire: Wire) -> float:
    """Seconds of an all-reduce of `size` bytes around a ring, as gloo does it."""
    rounds = 1 if workers == 2 and size <= SHORT else 2 * (workers - 1)
    return rounds * ASKED * wire.delay + _transfer(size, workers, wire)


def doubling(size: float, workers: int, wire: Wire) -> float:
    """Seconds of an all-reduce of `size` bytes by recursive halving, then doubling."""
    rounds = 1 if workers == 2 and size <= SHORT else 2 * math.ceil(math.log2(workers))
    return rounds * wire.delay + _transfer(size, workers, wire)


SCHEDULES: dict[str, Callable[[float, int, Wire], float]] = {
    "halving and doubling": doubling,
    "ring, by gloo": ring,
}


def _transfer(size: float, workers: int, wire: Wire) -> float:
    return 2 * (workers - 1) / workers * 8 * size / wire.rate


def sent(numbers: int, fixed: float = 0.0) -> float:
    """Bytes of the gradient and the loss as they are on a wire."""
    return FRAMES * BYTES_A_NUMBER * (numbers + 1) + fixed


def table(schedule: str, compute: float = COMPUTE, fixed: float = 0.0) -> str:
    """Seconds of an update of RoBERTa-large, in Markdown, and the share of them that is compute.

    Args:
        schedule: a key of `SCHEDULES`.
        compute: seconds a worker computes.
        fixed: bytes on the wire in an update, whatever is trained, as measured.
    """
    exchange = SCHEDULES[schedule]
    header = ["link", "trained", *(f"n = {n:,}" for n in WORKERS)]
    rows = [header, ["---"] * len(header)]
    for wire in WIRES:
        for name, numbers in TRAINED.items():
            cells = [_cell(compute, exchange(sent(numbers, fixed), n, wire)) for n in WORKERS]
            rows.append([wire.name, name, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(compute: float, exchange: float) -> str:
    whole = compute + exchange
    return f"{_seconds(whole)} ({compute / whole:.0%})"


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2f} s"
    return f"{seconds:,.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="RoBERTa-large over thin and thick wires.")
    parser.add_argument("--compute", type=float, default=COMPUTE, help="seconds a worker computes")
    parser.add_argument("--fixed", type=float, default=0.0, help="bytes of any update, measured")
    given = parser.parse_args(arguments)
    print(f"RoBERTa-large: compute {given.compute} s an update, {given.fixed:.0f} bytes of any")
    for schedule in SCHEDULES:
        print(f"\n{schedule}:\n\n{table(schedule, given.compute, given.fixed)}")


if __name__ == "__main__":
    main()
