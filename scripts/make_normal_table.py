"""Print `src/d90/rng/normal_table.py`: philox-v1's inverse normal distribution, in integers.

The table is part of the random scheme: it is generated once, committed, and never recomputed at run
time, so that no math library can change a bit of it. A test runs this script and compares.
"""

from __future__ import annotations

import math
from fractions import Fraction

from scipy.special import ndtri

LEVELS, LINES, TAIL, UNIT = 2**15, 64, 2**11, 2**12


def density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) if math.isfinite(x) else 0.0


def moments(lower: Fraction, upper: Fraction) -> tuple[float, float]:
    """Mean and variance of |N(0, 1)| where its tail probability lies in (lower, upper)."""
    far, near = (-ndtri(float(u) / 2) if u else math.inf for u in (lower, upper))
    mass = float(upper - lower)
    mean = 2 * (density(near) - density(far)) / mass
    edge = 0.0 if math.isinf(far) else far * density(far)
    second = 1 + 2 * (near * density(near) - edge) / mass
    return mean, max(second - mean * mean, 0.0)


def line(start: int, steps: int) -> tuple[int, int]:
    """Intercept and fall, in units of 2^-12, of the line over the levels start..start + steps.

    Level k of it is `intercept - floor(fall * k / steps)`. The line keeps the mean and the variance
    of its piece of the normal, as well as whole numbers can.
    """
    mean, variance = moments(Fraction(start, LEVELS), Fraction(start + steps, LEVELS))
    fall = round(math.sqrt(12 * variance / (1 - steps**-2)) * UNIT)
    falls = sum(fall * k // steps for k in range(steps)) / steps
    return round(mean * UNIT + falls), fall


def rows(values: list[int]) -> str:
    return "\n".join(
        "    " + ", ".join(map(str, values[i : i + 8])) + "," for i in range(0, len(values), 8)
    )


def main() -> None:
    print('"""Frozen constants of philox-v1, made by `scripts/make_normal_table.py`: do not edit.')
    print()
    print("64 lines over the 2^15 levels of tail probability, and 64 over the first 2^11 of them;")
    print("units of 2^-12.")
    print('"""')
    print("\n# fmt: off")
    for name, levels in (("", LEVELS), ("TAIL_", TAIL)):
        lines = [line(k * (levels // LINES), levels // LINES) for k in range(LINES)]
        print(f"{name}INTERCEPTS = (\n" + rows([a for a, _ in lines]) + "\n)")
        print(f"{name}FALLS = (\n" + rows([b for _, b in lines]) + "\n)")


if __name__ == "__main__":
    main()
