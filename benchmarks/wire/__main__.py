"""`python -m benchmarks.wire`: bytes and seconds per optimizer step over a fast and a slow link.

Two network namespaces simulate two machines, each with one worker of one thread. Needs root and
Debian's iproute2, and removes everything that it creates. The slow link has 1 Mbit/s and 50 ms each
way. The speed of both links is measured first. Full fine-tuning sends 17.5 MB per optimizer step,
which takes more than two minutes on the slow link.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from signal import SIGTERM, signal

import torch

from benchmarks.wire import cost
from benchmarks.wire.link import DEVICE, Link, link, measure_speed, missing
from benchmarks.wire.work import Work, WorkResult

RATE, DELAY = 1e6, 50e-3
PORT = 29500
START_SECONDS = 300

SMALL = Work(d=None, steps=10)
LARGE = Work(d=None, steps=10, gradient_accumulation_steps=8)
DIMENSIONS = (100, 1_000, 10_000)
FULL_STEPS = 2
"""Steps of full fine-tuning on the slow link, where each takes minutes; without warm-up."""


@dataclass(frozen=True)
class Measurement:
    """Result of training over a link, from the first of the two processes."""

    slow: bool
    work: Work
    result: WorkResult

    @property
    def seconds(self) -> float:
        """Median time of an optimizer step."""
        return statistics.median(self.result.seconds)


def train(pair: Link, work: Work) -> WorkResult:
    """Train with one process at each end of the link; return the result of the first.

    Raises:
        RuntimeError: one of the two failed.
    """
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": pair.address(0),
        "MASTER_PORT": str(PORT),
        "GLOO_SOCKET_IFNAME": DEVICE,
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
    }
    workers = [
        pair.start(end, ["-m", "benchmarks.wire.work", work.to_json()], RANK=str(end), **common)
        for end in range(2)
    ]
    try:
        outputs = [worker.communicate()[0] for worker in workers]
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                worker.kill()
            worker.wait()
    if any(worker.returncode for worker in workers):
        raise RuntimeError(f"{work.name} failed: see above")
    return WorkResult(**json.loads(outputs[0].splitlines()[-1]))


def plan(quick: bool) -> tuple[list[Work], list[Work]]:
    """Work for the fast link, and for the slow one."""
    if quick:
        tiny = Work(d=100, steps=2, warmup_steps=1, batch_size=4, length=16)
        return [tiny, replace(tiny, d=None)], [tiny]
    small = [replace(SMALL, d=d) for d in (*DIMENSIONS, None)]
    large = [replace(LARGE, d=1_000), LARGE]
    full = replace(LARGE, steps=FULL_STEPS, warmup_steps=0)
    return [*small, *large], [replace(SMALL, d=1_000), replace(LARGE, d=1_000), full]


def bytes_table(measurements: Sequence[Measurement]) -> str:
    """Bytes that one of two workers sends per optimizer step."""
    lines = [
        "| trained | values | link | bytes counted | bytes by the kernel | kernel / counted |",
        "|---|---|---|---|---|---|",
    ]
    for m in {(m.work.d, m.slow): m for m in measurements}.values():
        values = m.result.weights if m.work.d is None else m.work.d
        counted, kernel = m.result.counted, m.result.kernel
        speed = "slow" if m.slow else "fast"
        cells = (f"{counted:,.0f}", f"{kernel:,.0f}", f"{kernel / counted:.3f}")
        lines.append(f"| {m.work.name} | {values:,} and 1 | {speed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed_table(measurements: Sequence[Measurement]) -> str:
    """Seconds per optimizer step over both links, and the relative speed of the slow one."""
    lines = [
        "| trained | examples per step | steps timed | fast link | slow link | relative speed |",
        "|---|---|---|---|---|---|",
    ]
    on_fast = {(m.work.d, m.work.examples): m for m in measurements if not m.slow}
    for slow in (m for m in measurements if m.slow):
        fast = on_fast[slow.work.d, slow.work.examples]
        lines.append(
            f"| {slow.work.name} | {slow.work.examples} | {fast.work.steps}, {slow.work.steps} "
            f"| {fast.seconds:.3f} s | {slow.seconds:.3f} s "
            f"| {fast.seconds / slow.seconds:.1%} |"
        )
    return "\n".join(lines)


def fixed_bytes(measurements: Sequence[Measurement]) -> float:
    """Bytes per optimizer step besides the framed vector: acknowledgements and gloo's own messages.

    Measured over the slow link, whose frames have the size of Ethernet's, at the smallest d.
    """
    smallest = min((m for m in measurements if m.slow and m.work.d), key=lambda m: m.work.d or 0)
    return max(0.0, smallest.result.kernel - cost.FRAMES * smallest.result.counted)


def _measure(pair: Link, slow: bool, works: Sequence[Work]) -> Iterator[Measurement]:
    for work in works:
        result = train(pair, work)
        measurement = Measurement(slow, work, result)
        times = ", ".join(f"{seconds:.3f}" for seconds in result.seconds)
        print(
            f"{work.name}, {work.examples} examples of {work.length} tokens: "
            f"{measurement.seconds:.3f} s per optimizer step ({times}), "
            f"{result.counted:,.0f} bytes counted, {result.kernel:,.0f} bytes by the kernel, "
            f"{result.others} bytes for anything else",
            flush=True,
        )
        yield measurement


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="check that it runs: tiny sizes")
    parser.add_argument("--rate", type=float, default=RATE, help="bits per second of the slow link")
    parser.add_argument("--delay", type=float, default=DELAY, help="its delay in seconds, each way")
    parser.add_argument("--output", type=Path, help="write all measurements to this JSON file")
    args = parser.parse_args(arguments)
    if reason := missing():
        print(f"error: {reason}", file=sys.stderr)
        return 2
    signal(SIGTERM, lambda *_: sys.exit(143))  # Remove the namespaces, as after Ctrl-C.
    fast, slow = plan(args.quick)
    measurements: list[Measurement] = []
    load = ", ".join(f"{x:.2f}" for x in os.getloadavg())
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {load}, one thread per worker")
    with link() as pair:
        print(f"fast link: {pair.kind}: {measure_speed(pair, 50_000_000)}", flush=True)
        measurements += _measure(pair, False, fast)
    with link(args.rate, args.delay) as pair:
        size = int(args.rate / 8 * (1 if args.quick else 5))
        print(f"slow link: {pair.kind}: {measure_speed(pair, size)}", flush=True)
        measurements += _measure(pair, True, slow)
    print(f"\n{bytes_table(measurements)}\n\n{speed_table(measurements)}\n", flush=True)
    cost.main(["--fixed", f"{fixed_bytes(measurements):.0f}"])
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps([asdict(m) for m in measurements], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
