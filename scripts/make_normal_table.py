"""Print `src/d90/normal_table.py`: the inverse normal distribution of philox-v1, in whole numbers.

The table is part of the random scheme: generated once, committed, and never made again at run time,
so that no mathematics library can change a bit of it. A test runs this again and compares.
"""

from __future__ import annotations

import math
from fractions import Fraction

from scipy.special import ndtri

OCTAVES, SEGMENTS, STEPS, UNIT = 24, 8, 1024, 2**21


def density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) if math.isfinite(x) else 0.0


def moments(lower: Fraction, upper: Fraction) -> tuple[float, float]:
    """Mean and variance of |N(0, 1)| where its upper tail probability lies in (lower, upper)."""
    far, near = (-ndtri(float(u) / 2) if u else math.inf for u in (lower, upper))
    mass = float(upper - lower)
    mean = 2 * (density(near) - density(far)) / mass
    edge = 0.0 if math.isinf(far) else far * density(far)
    second = 1 + 2 * (near * density(near) - edge) / mass
    return mean, max(second - mean * mean, 0.0)


def segment(octave: int, part: int) -> tuple[int, int]:
    """Intercept and slope, in units of 2^-21, of the line that keeps the segment's two moments.

    The variance of the line is slope^2 (STEPS^2 - 1) / 12. In octave 0 lies only u = 1, which
    stands for the whole tail below 2 / 2^24, with its mean. Every other pair packs into 32 bits.
    """
    if octave == 0:
        return round(moments(Fraction(0), Fraction(2, 2**24))[0] * UNIT), 0
    start = Fraction(2**octave) * (1 + Fraction(part, SEGMENTS)) / 2**24
    mean, variance = moments(start, start + Fraction(2**octave, SEGMENTS) / 2**24)
    slope = -round(math.sqrt(12 * variance / (STEPS**2 - 1)) * UNIT)
    return round(mean * UNIT - slope * (STEPS - 1) / 2), slope


def rows(values: list[int]) -> str:
    return "\n".join(
        "    " + ", ".join(map(str, values[i : i + SEGMENTS])) + ","
        for i in range(0, len(values), SEGMENTS)
    )


def main() -> None:
    pairs = [segment(octave, part) for octave in range(OCTAVES) for part in range(SEGMENTS)]
    print('"""Frozen constants of philox-v1, made by `scripts/make_normal_table.py`: do not edit.')
    print()
    print("One row an octave of the tail probability u, from 2^-24 upwards; units of 2^-21.")
    print('"""')
    print("\n# fmt: off")
    print("INTERCEPTS = (\n" + rows([a for a, _ in pairs]) + "\n)")
    print("SLOPES = (\n" + rows([b for _, b in pairs]) + "\n)")


if __name__ == "__main__":
    main()
