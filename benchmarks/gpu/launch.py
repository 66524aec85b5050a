"""Launch the kernels of a projection once, for the tools that watch them.

    python -m benchmarks.gpu.launch onehot --d 1000 --D 125000000

The first calls compile and are not meant; a profiler that waits for `cudaProfilerStart` sees the
second ones alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from benchmarks.kernels import OPERATIONS, operations, weights


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("projections", nargs="+")
    parser.add_argument("--d", type=int, nargs="+", default=[1_000])
    parser.add_argument("--D", type=int, default=125_000_000)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args(arguments)
    theta_0, out = (weights(options.D, options.device) for _ in range(2))
    work = [
        operations(name, d, theta_0, out)[op]
        for name in options.projections
        for d in options.d
        for op in OPERATIONS
    ]
    for call in work:
        call()
    if options.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
    for call in work:
        call()
    if options.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()
    print(f"{len(work)} calls of {', '.join(options.projections)}")


if __name__ == "__main__":
    main()
