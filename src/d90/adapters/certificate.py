"""What the bytes of a task file prove of its error: what is paid for, what is assumed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from d90.adapters import Adapter
from d90.bounds.check import check_sample
from d90.bounds.description_length import CodeLength, code_lengths
from d90.bounds.occam import occam_hoeffding, occam_kl, theorem_1
from d90.bounds.pac_bayes import pac_bayes_kl, universal_divergence

LISTS: Mapping[str, int] = {"projection": 4, "scale": 4, "method": 2, "groups": 3, "code": 4}
"""How many there are to choose from; a test compares them with the tables of the package."""

FIXED = (
    "the base model and its weights, not trained on these examples",
    "the task: its columns, its classes, the length at which texts are cut",
    "this code for files, and the philox-v1 that makes P and the head from their seeds",
)


@dataclass(frozen=True)
class Certificate:
    """Bounds on the error of the classifier that a task file means.

    Attributes:
        payments: each choice that is paid for.
        bits: their sum.
        error: share of the training examples that are wrong; `examples` of them.
        validation_error, majority_error: for comparison; no bound is made of them.
        delta: how often each bound may fail.
        bounds: by name.
        fixed: what has to be so for them to hold.
    """

    code_lengths: tuple[CodeLength, ...]
    bits: float
    error: float
    examples: int
    validation_error: float
    majority_error: float
    delta: float
    bounds: Mapping[str, float]
    fixed: tuple[str, ...] = FIXED

    @property
    def tightest(self) -> tuple[str, float]:
        """The name and the value of the lowest bound."""
        return min(self.bounds.items(), key=lambda item: item[1])

    def is_vacuous(self, bound: float) -> bool:
        """Whether always saying the most frequent class is promised as much."""
        return bound >= self.majority_error

    def sentence(self) -> str:
        """What the lowest bound says, plainly."""
        name, value = self.tightest
        if self.is_vacuous(value):
            return (
                f"vacuous: the lowest bound, {value:.4f} ({name}), is not below the error of the "
                f"majority class, {self.majority_error:.4f}: it needs fewer bits or more examples."
            )
        return (
            f"the error on new examples is at most {value:.4f} ({name}), "
            f"{100 * (self.majority_error - value):.1f} points below the majority class."
        )

    def to_json(self) -> str:
        """All of it."""
        facts = {**asdict(self), "vacuous": self.is_vacuous(self.tightest[1])}
        return json.dumps({**facts, "bounds": dict(self.bounds)}, indent=2)


def certify(
    file: Adapter,
    *,
    wrong: int,
    examples: int,
    majority_error: float,
    validation_error: float,
    delta: float = 0.05,
) -> Certificate:
    """The bounds of a file whose model gets `wrong` of `examples` training examples wrong.

    Each bound alone holds with probability 1 - delta; taking the lowest of the four afterwards is
    paid for by giving each a quarter of delta.

    Raises:
        D90Error: for a count or delta out of its range.
    """
    error = wrong / max(examples, 1)
    check_sample(error, examples, delta)
    paid = code_lengths(
        data_bytes=len(file.data),
        d=file.d,
        seed=file.subspace.seed,
        head_seed=file.base.head_seed,
        lists=LISTS,
    )
    bits = math.fsum(payment.bits for payment in paid)
    levels, codebook = _levels(file)
    other = bits - file.bits + codebook
    share = {"examples": examples, "delta": delta / 4}
    bounds = {
        f"Theorem 1, {levels:,} levels": theorem_1(
            error, d=file.d, levels=levels, extra_bits=other, **share
        ),
        "finite hypotheses (Hoeffding)": occam_hoeffding(error, bits=bits, **share),
        "finite hypotheses (Chernoff, kl)": occam_kl(error, bits=bits, **share),
    }
    if examples >= 8:
        divergence = universal_divergence(bits)
        bounds["PAC-Bayes kl, universal prior"] = pac_bayes_kl(
            error, divergence=divergence, **share
        )
    return Certificate(paid, bits, error, examples, validation_error, majority_error, delta, bounds)


def _levels(file: Adapter) -> tuple[int, int]:
    """How many values a number of the file may have, and the bits that say which those are."""
    if file.codec == "levels":
        r = file.data[0]
        return r, 8 + 24 * r
    if file.codec == "uniform":
        return 2 * file.data[6] + 1, 56
    return (2**16, 0) if file.codec == "float16" else (2**32, 0)
