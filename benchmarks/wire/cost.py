"""Estimate the time of an optimizer step on n workers: compute, and one all-reduce.

    python -m benchmarks.wire.cost [--compute SECONDS] [--fixed BYTES]

The cost model is that of Thakur, Rabenseifner and Gropp (2005): a delay for each round of messages
and a time for each byte. For n workers with B bytes each, links of r bits per second and a delay of
t seconds:

    ring                   2 (n - 1) rounds         + 2 (n - 1) / n * 8 B / r
    halving and doubling   2 ceil(log2 n) rounds    + 2 (n - 1) / n * 8 B / r

gloo uses the ring. A round of it takes 2 t, because the receiver announces that it is ready before
the sender starts; this was measured. MPI and NCCL use halving and doubling, or a tree with as many
rounds, and send short messages without a handshake: t per round. Two workers exchange short vectors
in one round (`d90.distributed.process_group`). Communication does not overlap with compute, links
share no capacity, and all workers are equally fast.
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
"""Seconds of compute per optimizer step and worker, an assumption: 32 examples of 128 tokens
through the 303 million weights outside the embeddings take 6 * 303e6 * 4096 = 7.4e12 operations,
which is 0.1 s on a GPU that sustains 75e12 operations per second."""

BYTES_PER_VALUE = 4
FRAMES = 1514 / 1448
"""Bytes of an Ethernet frame per byte of TCP payload."""

GLOO_DELAYS_PER_ROUND = 2

WORKERS = (2, 10, 100, 1_000, 10_000)
TRAINED: dict[str, int] = {
    "d = 200": 200,
    "d = 1,000": 1_000,
    "d = 10,000": 10_000,
    "full": ROBERTA_LARGE,
}


@dataclass(frozen=True)
class Wire:
    """A worker's link: bits per second each way, and seconds until a message arrives."""

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
    return rounds * GLOO_DELAYS_PER_ROUND * wire.delay + _transfer(size, workers, wire)


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


def sent(parameters: int, fixed: float = 0.0) -> float:
    """Bytes on the wire for the gradient of so many parameters and the loss."""
    return FRAMES * BYTES_PER_VALUE * (parameters + 1) + fixed


def table(schedule: str, compute: float = COMPUTE, fixed: float = 0.0) -> str:
    """Seconds per optimizer step of RoBERTa-large, and the fraction that is compute, in Markdown.

    Args:
        schedule: a key of `SCHEDULES`.
        compute: seconds of compute per optimizer step.
        fixed: measured bytes on the wire per optimizer step besides the framed vector.
    """
    exchange = SCHEDULES[schedule]
    header = ["link", "trained", *(f"n = {n:,}" for n in WORKERS)]
    rows = [header, ["---"] * len(header)]
    for wire in WIRES:
        for name, parameters in TRAINED.items():
            cells = [_cell(compute, exchange(sent(parameters, fixed), n, wire)) for n in WORKERS]
            rows.append([wire.name, name, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(compute: float, exchange: float) -> str:
    total = compute + exchange
    return f"{_seconds(total)} ({compute / total:.0%})"


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2f} s"
    return f"{seconds:,.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Time per optimizer step of RoBERTa-large over slow and fast links."
    )
    parser.add_argument(
        "--compute", type=float, default=COMPUTE, help="seconds of compute per optimizer step"
    )
    parser.add_argument(
        "--fixed",
        type=float,
        default=0.0,
        help="measured bytes per optimizer step besides the framed vector",
    )
    args = parser.parse_args(arguments)
    print(f"RoBERTa-large: {args.compute} s of compute and {args.fixed:.0f} fixed bytes per step")
    for schedule in SCHEDULES:
        print(f"\n{schedule}:\n\n{table(schedule, args.compute, args.fixed)}")


if __name__ == "__main__":
    main()
