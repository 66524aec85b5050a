"""`python -m benchmarks.gpu`: check everything on one GPU, in ten minutes, installing nothing."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu import report
from benchmarks.gpu.part import Part, Result, Setup
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.runner import run_parts

ABOUT = """\
Check d90 on one GPU: bits, gradients, training, speed and memory. Needs torch, triton and
transformers, and nothing installed; from the root of the repository:

  PYTHONPATH=src D90_LIBRARY=.gpu/libd90.so python3 -m benchmarks.gpu --output gpu.jsonl

Every result is a line of the output file as soon as it is known, so a run that is cut off keeps
what it had; --report prints such a file. The exit code is 0 if every check is ok, 1 otherwise.
"""

_SLOWER = 5
"""Times the limits in a rehearsal, which may run beside other tests."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    options = _parser().parse_args(arguments)
    if options.report is not None:
        results = report.read(options.report)
        print(report.table(results, PARTS))
        return _exit_code(results)
    output = report.OutputFile(options.output)
    results: list[Result] = []
    began = time.monotonic()

    def keep(result: Result) -> None:
        output.append(result)
        results.append(result)
        mark = {True: "ok", False: "FAILED", None: "-"}[result.ok]
        print(
            f"{time.monotonic() - began:5.0f} s  {result.part}  {mark}  {result.name}", flush=True
        )

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that the child is ended too.
    setup = Setup(options.device, options.folder)
    patience = _SLOWER if setup.is_rehearsal else 1
    parts = [replace(part, seconds=patience * part.seconds) for part in options.parts]
    try:
        run_parts(parts, setup, keep, limit=patience * options.limit)
    finally:
        print(report.table(results, PARTS), flush=True)
    return _exit_code(results)


def _exit_code(results: Sequence[Result]) -> int:
    return 1 if not results or any(result.ok is False for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    listed = "".join(
        f"\n  {part.number:2}  {part.name} (at most {part.seconds:g} s)" for part in PARTS
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=ABOUT,
        epilog=f"parts:{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    job = parser.add_mutually_exclusive_group(required=True)
    job.add_argument("--output", type=Path, metavar="FILE", help="write a JSON line per result")
    job.add_argument("--report", type=Path, metavar="FILE", help="print the table of such a file")
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu: a rehearsal, Triton's kernels in its interpreter and tiny sizes (cuda)",
    )
    parser.add_argument(
        "--parts",
        type=_parts,
        default=list(PARTS),
        metavar="LIST",
        help="such as 0,3-5, in the order in which they should run (all)",
    )
    parser.add_argument(
        "--limit", type=float, default=570.0, metavar="SECONDS", help="of the whole run (570)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(".gpu"),
        help="models and data that scripts/prepare_gpu.sh wrote (.gpu)",
    )
    return parser


def _parts(text: str) -> list[Part]:
    """The parts of a list of numbers and ranges."""
    known = {part.number: part for part in PARTS}
    numbers: list[int] = []
    for piece in text.split(","):
        ends = piece.split("-")
        if len(ends) > 2 or not all(end.isdecimal() for end in ends):
            raise argparse.ArgumentTypeError(f"'{piece}': a number or a range such as 3-5")
        numbers += range(int(ends[0]), int(ends[-1]) + 1)
    unknown = [number for number in numbers if number not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]}: see --help")
    return [known[number] for number in dict.fromkeys(numbers)]


if __name__ == "__main__":
    raise SystemExit(main())
