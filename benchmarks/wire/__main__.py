"""`python -m benchmarks.wire`: bytes and seconds of an update over a fast and a thin link.

Two namespaces are two machines, each with one thread of a worker. Needs root and Debian's iproute2;
leaves nothing behind. The thin link is 1 Mbit/s and 50 ms each way. What the links give is measured
first. Full fine-tuning sends 17.5 MB an update, more than two minutes of the thin link.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from signal import SIGTERM, signal

import torch

from benchmarks.wire import cost
from benchmarks.wire.link import DEVICE, Link, link, missing, verify
from benchmarks.wire.work import Seen, Work

RATE, DELAY = 1e6, 50e-3
PORT = 29500
START_SECONDS = 300

SMALL = Work(d=None, updates=10)
LARGE = Work(d=None, updates=10, accumulation=8)
DIMENSIONS = (100, 1_000, 10_000)
FULL_UPDATES = 2
"""On the thin link, where each takes minutes; none is made before them."""


@dataclass(frozen=True)
class Measured:
    """Work over a link, as the first of the two processes saw it."""

    thin: bool
    work: Work
    seen: Seen

    @property
    def seconds(self) -> float:
        """The median update."""
        return statistics.median(self.seen.seconds)


def train(made: Link, work: Work) -> Seen:
    """What the first of two processes sees of this work.

    Raises:
        RuntimeError: one of the two failed.
    """
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": made.address(0),
        "MASTER_PORT": str(PORT),
        "GLOO_SOCKET_IFNAME": DEVICE,
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
    }
    workers = [
        made.start(end, ["-m", "benchmarks.wire.work", work.to_json()], RANK=str(end), **common)
        for end in range(2)
    ]
    try:
        said = [worker.communicate()[0] for worker in workers]
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                worker.kill()
            worker.wait()
    if any(worker.returncode for worker in workers):
        raise RuntimeError(f"{work.name} failed: see above")
    return Seen(**json.loads(said[0].splitlines()[-1]))


def plan(quick: bool) -> tuple[list[Work], list[Work]]:
    """What is made over the fast link, and over the thin one."""
    if quick:
        little = Work(d=100, updates=2, before=1, batch_size=4, length=16)
        return [little, replace(little, d=None)], [little]
    small = [replace(SMALL, d=d) for d in (*DIMENSIONS, None)]
    large = [replace(LARGE, d=1_000), LARGE]
    slow = replace(LARGE, updates=FULL_UPDATES, before=0)
    return [*small, *large], [replace(SMALL, d=1_000), replace(LARGE, d=1_000), slow]


def bytes_table(found: Sequence[Measured]) -> str:
    """Bytes that one of two workers sends an update, by what is trained."""
    lines = [
        "| trained | numbers | link | bytes counted | bytes by the kernel | kernel / counted |",
        "|---|---|---|---|---|---|",
    ]
    for one in {(one.work.d, one.thin): one for one in found}.values():
        numbers = one.seen.weights if one.work.d is None else one.work.d
        counted, kernel = one.seen.counted, one.seen.kernel
        place = "thin" if one.thin else "fast"
        cells = (f"{counted:,.0f}", f"{kernel:,.0f}", f"{kernel / counted:.3f}")
        lines.append(f"| {one.work.name} | {numbers:,} and 1 | {place} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed_table(found: Sequence[Measured]) -> str:
    """Seconds an update over both links, and the share of the speed that the thin one leaves."""
    lines = [
        "| trained | texts an update | updates timed | fast link | thin link | speed kept |",
        "|---|---|---|---|---|---|",
    ]
    on_fast = {(one.work.d, one.work.texts): one for one in found if not one.thin}
    for thin in (one for one in found if one.thin):
        fast = on_fast[thin.work.d, thin.work.texts]
        lines.append(
            f"| {thin.work.name} | {thin.work.texts} | {fast.work.updates}, {thin.work.updates} "
            f"| {fast.seconds:.3f} s | {thin.seconds:.3f} s "
            f"| {fast.seconds / thin.seconds:.1%} |"
        )
    return "\n".join(lines)


def fixed(found: Sequence[Measured]) -> float:
    """Bytes of an update besides the framed vector: acknowledgements, and gloo's own messages.

    Over the thin link, whose frames are those of a wire; at the smallest d.
    """
    one = min((one for one in found if one.thin and one.work.d), key=lambda one: one.work.d or 0)
    return max(0.0, one.seen.kernel - cost.FRAMES * one.seen.counted)


def _measure(made: Link, thin: bool, works: Sequence[Work], found: list[Measured]) -> None:
    for work in works:
        one = Measured(thin, work, train(made, work))
        found.append(one)
        times = ", ".join(f"{seconds:.3f}" for seconds in one.seen.seconds)
        print(
            f"{work.name}, {work.texts} texts of {work.length} tokens: {one.seconds:.3f} s an "
            f"update ({times}), {one.seen.counted:,.0f} bytes counted and {one.seen.kernel:,.0f} "
            f"by the kernel, {one.seen.others} for anything else",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works")
    parser.add_argument("--rate", type=float, default=RATE, help="bits a second of the thin link")
    parser.add_argument("--delay", type=float, default=DELAY, help="its seconds, each way")
    parser.add_argument("--output", type=Path, help="JSON of all that was measured")
    given = parser.parse_args(arguments)
    if why := missing():
        print(f"error: {why}", file=sys.stderr)
        return 2
    signal(SIGTERM, lambda *_: sys.exit(143))  # So that the namespaces go, as after Ctrl-C.
    fast, thin = plan(given.quick)
    found: list[Measured] = []
    load = ", ".join(f"{x:.2f}" for x in os.getloadavg())
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {load}, a thread a worker")
    with link() as made:
        print(f"fast link: {made.how}: {verify(made, 50_000_000)}", flush=True)
        _measure(made, False, fast, found)
    with link(given.rate, given.delay) as made:
        size = int(given.rate / 8 * (1 if given.quick else 5))
        print(f"thin link: {made.how}: {verify(made, size)}", flush=True)
        _measure(made, True, thin, found)
    print(f"\n{bytes_table(found)}\n\n{speed_table(found)}\n", flush=True)
    cost.main(["--fixed", f"{fixed(found):.0f}"])
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
