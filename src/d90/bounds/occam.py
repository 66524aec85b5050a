"""Bounds for finitely many hypotheses, by their description length.

`docs/generalization.md` derives them and lists the choices that count.
"""

from __future__ import annotations

import math

from d90.bounds.binary_kl import inverse_binary_kl
from d90.bounds.check import check_length, check_sample


def theorem_1(
    error: float, *, d: int, levels: int, examples: int, delta: float = 0.05, extra_bits: float = 0
) -> float:
    """Theorem 1 of Aghajanyan et al. 2021 with its constants: d parameters of r levels.

        L(f) <= Lhat(f) + sqrt((d ln r + extra ln 2 + ln(1 / delta)) / (2 m))

    The compression argument of Arora et al. 2018 in its simplest case: the trained classifier *is*
    one of r^d, so its margin plays no part. `occam_hoeffding` at `d log2(r) + extra` bits.

    Args:
        error: Lhat, the fraction of the m examples that f gets wrong, in [0, 1].
        d: number of parameters.
        levels: r, the number of values that each of them may take, fixed in advance.
        examples: m.
        delta: probability that the bound fails, in (0, 1).
        extra_bits: for every other choice that depends on the examples.

    Raises:
        D90Error: an argument is out of range.

    >>> round(theorem_1(0.1, d=200, levels=16, examples=67_349), 6)
    0.164335
    """
    bits = d * math.log2(levels) + extra_bits
    return occam_hoeffding(error, bits=bits, examples=examples, delta=delta)


def occam_hoeffding(error: float, *, bits: float, examples: int, delta: float = 0.05) -> float:
    """A bound on the expected error of a classifier that `bits` bits describe.

        L(f) <= Lhat(f) + sqrt((bits ln 2 + ln(1 / delta)) / (2 m))

    with probability 1 - delta over m i.i.d. examples, for every f of a class at once: Hoeffding's
    inequality for each f, with failure probability delta 2^(-bits(f)), and a union bound
    (Kraft's inequality makes these sum to at most delta). Blumer et al. 1987, in the form of
    Shalev-Shwartz and Ben-David 2014, Theorem 7.7.

    Assumes: the examples are independent draws from the distribution that L is over; the
    prefix-free code (and with it P, theta_0 and d, or their part of `bits`) is fixed before they
    are seen.

    Args:
        error: Lhat, the fraction of the m examples that f gets wrong, in [0, 1].
        bits: length of f in the code.
        examples: m.
        delta: probability that the bound fails, in (0, 1).

    Returns:
        A bound, vacuous if above 1.

    Raises:
        D90Error: an argument is out of range.

    >>> round(occam_hoeffding(0.1, bits=0, examples=1000, delta=0.05), 6)
    0.138702
    """
    check_sample(error, examples, delta)
    check_length(bits)
    nats = bits * math.log(2) + math.log(1 / delta)
    return error + math.sqrt(nats / (2 * examples))


def occam_kl(error: float, *, bits: float, examples: int, delta: float = 0.05) -> float:
    """`occam_hoeffding` with Chernoff's inequality: tighter, most of all for a small Lhat.

        kl(Lhat(f) || L(f)) <= (bits ln 2 + ln(1 / delta)) / m

    solved for L(f) (Langford 2005, Theorem 3.3 and Corollary 4.4). By Pinsker's inequality it is
    never above `occam_hoeffding`.

    Args, assumptions and errors: as `occam_hoeffding`.

    Returns:
        A number in [error, 1].

    >>> round(occam_kl(0.0, bits=0, examples=1000, delta=0.05), 6)
    0.002991
    """
    check_sample(error, examples, delta)
    check_length(bits)
    return inverse_binary_kl(error, (bits * math.log(2) + math.log(1 / delta)) / examples)
