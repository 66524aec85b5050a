"""How often the interval of `d90.search.estimate` covers the truth, on simulated studies.

The true curve is logistic in log d, with a random middle and slope; every run adds normal noise.
Prints, for each number of dimensions, seeds and noise: coverage, the median ratio of the
interval's ends, and how often the (monotone) curve is called not monotone.

    python benchmarks/interval_coverage.py
"""

from __future__ import annotations

import math
import random
from statistics import median

from d90.search.estimate import estimate
from d90.search.trial import Trial, TrialResult

STUDIES = 400
FULL, MAJORITY, TOP = 0.86, 0.50, 0.36
LADDERS = {
    10: (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000),
    30: tuple(round(10 * 1000 ** (i / 29)) for i in range(30)),
}


def simulated(
    generator: random.Random, dims: tuple[int, ...], seeds: int, noise: float
) -> tuple[list[TrialResult], float]:
    """The records of a study, and the d at which its true curve crosses the threshold."""
    middle = math.exp(generator.uniform(math.log(60), math.log(600)))
    slope = generator.uniform(0.8, 2.0)
    results = [TrialResult(Trial(None, 1e-4), "ok", metric=FULL)]
    for d in dims:
        metric = MAJORITY + TOP / (1 + (d / middle) ** -slope)
        for seed in range(seeds):
            run = TrialResult(Trial(d, 0.01, seed), "ok", metric=metric + generator.gauss(0, noise))
            results.append(run)
    share = (0.9 * FULL - MAJORITY) / TOP
    return results, middle * (share / (1 - share)) ** (1 / slope)


def main() -> None:
    """Print one line a setting."""
    print("dims seeds noise  coverage  ratio of ends  false alarms")
    generator = random.Random(0)
    for count, dims in LADDERS.items():
        for seeds in (2, 3, 5):
            for noise in (0.005, 0.02):
                covered, alarms, ratios = 0, 0, []
                for _ in range(STUDIES):
                    results, truth = simulated(generator, dims, seeds, noise)
                    answer = estimate(results, majority=MAJORITY)
                    low, high = answer.interval or (math.inf, 0)
                    low, high = low or 0, math.inf if high is None else high
                    covered += low < truth <= high
                    ratios.append(high / max(low, dims[0]))
                    alarms += any("monotone" in warning for warning in answer.warnings)
                print(
                    f"{count:4} {seeds:5} {noise:5} {covered / STUDIES:9.2f} "
                    f"{median(ratios):14.2f} {alarms / STUDIES:13.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
