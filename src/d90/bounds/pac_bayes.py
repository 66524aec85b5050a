"""PAC-Bayes with the kl inequality, and the universal prior."""

from __future__ import annotations

import math

from d90.bounds.binary_kl import inverse_binary_kl
from d90.bounds.check import check_length, check_sample
from d90.errors import D90Error


def pac_bayes_kl(error: float, *, divergence: float, examples: int, delta: float = 0.05) -> float:
    """A bound on the expected error of a random classifier drawn from a posterior Q.

        kl(Lhat(Q) || L(Q)) <= (KL(Q || P) + ln(2 sqrt(m) / delta)) / m

    with probability 1 - delta over m i.i.d. examples, for every Q at once, solved for L(Q):
    Langford and Seeger 2001, with the constant of Maurer 2004 (Theorem 5, m >= 8). For a single
    classifier Q is a point mass, and KL(Q || P) is ln(1 / P(f)).

    Assumes: the prior P is fixed before the examples are seen; they are independent draws.

    Args:
        error: Lhat(Q), the mean fraction of the m examples that are wrong, in [0, 1].
        divergence: KL(Q || P), in nats.
        examples: m, at least 8.
        delta: how often the bound may fail, in (0, 1).

    Returns:
        A number in [error, 1].

    Raises:
        D90Error: an argument is out of range.

    >>> round(pac_bayes_kl(0.0, divergence=0.0, examples=1000, delta=0.05), 6)
    0.007117
    """
    check_sample(error, examples, delta)
    if examples < 8:
        raise D90Error(f"examples is {examples}: Maurer's constant needs at least 8.")
    if not divergence >= 0:
        raise D90Error(f"divergence is {divergence}: expected a number of at least 0.")
    nats = divergence + math.log(2 * math.sqrt(examples) / delta)
    return inverse_binary_kl(error, nats / examples)


def universal_divergence(bits: float) -> float:
    """KL of a point mass from the universal prior P(f) = 2^(-K(f)) / Z, at most, in nats.

        ln(1 / P(f)) <= K(f) ln 2 <= C(f) ln 2 + 2 ln C(f)

    for a classifier that a program of C(f) bits prints. The program need not be prefix-free: the
    last term encodes its length (Lotfi et al. 2022, Section 4).

    Args:
        bits: C(f), at least 1.

    Raises:
        D90Error: below 1 bit.

    >>> round(universal_divergence(100), 4)
    78.5251
    """
    check_length(bits)
    if bits < 1:
        raise D90Error(f"bits is {bits}: a program has at least 1.")
    return bits * math.log(2) + 2 * math.log(bits)
