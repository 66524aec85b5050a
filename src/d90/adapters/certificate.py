"""What the length of an adapter certifies of its test error, and what that assumes."""

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
from d90.errors import D90Error

LISTS: Mapping[str, int] = {"projection": 4, "scale": 4, "method": 2, "groups": 3, "code": 4}
"""Number of choices of each; a test compares them with the tables of the package."""

FIXED = (
    "the base model and its weights, not trained on these examples",
    "the task: its columns, its classes, the length at which texts are truncated",
    "this file format, and the philox-v1 that makes P and the head from their seeds",
)


@dataclass(frozen=True)
class Certificate:
    """Bounds on the test error of an adapter's classifier.

    Attributes:
        code_lengths: the bits of each choice that is paid for.
        bits: their sum.
        error: fraction of the `examples` training examples that are wrong.
        validation_error, majority_error: for comparison; no bound uses them.
        delta: probability that the bounds fail.
        bounds: by name.
        fixed: what has to be fixed before the data is seen for them to hold.
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
        """Whether the bound is no better than always predicting the most frequent class."""
        return bound >= self.majority_error

    def sentence(self) -> str:
        """The lowest bound in a sentence."""
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
        """All fields as JSON."""
        facts = {**asdict(self), "vacuous": self.is_vacuous(self.tightest[1])}
        return json.dumps({**facts, "bounds": dict(self.bounds)}, indent=2)


def check_is_classifier(adapter: Adapter) -> None:
    """Refuse an adapter that has no error rate to bound.

    Raises:
        D90Error: it is no classifier.
    """
    if not adapter.task.labels:
        raise D90Error(
            f"the bounds are of the error rate of a classifier, and this adapter for "
            f"'{adapter.task.name}' is of {adapter.task.kind}: it has none."
        )


def certify(
    file: Adapter,
    *,
    wrong: int,
    examples: int,
    majority_error: float,
    validation_error: float,
    delta: float = 0.05,
) -> Certificate:
    """The bounds of an adapter whose model gets `wrong` of `examples` training examples wrong.

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
    sample = {"examples": examples, "delta": delta / 4}
    bounds = {
        f"Theorem 1, {levels:,} levels": theorem_1(
            error, d=file.d, levels=levels, extra_bits=other, **sample
        ),
        "finite hypotheses (Hoeffding)": occam_hoeffding(error, bits=bits, **sample),
        "finite hypotheses (Chernoff, kl)": occam_kl(error, bits=bits, **sample),
    }
    if examples >= 8:
        divergence = universal_divergence(bits)
        bounds["PAC-Bayes kl, universal prior"] = pac_bayes_kl(
            error, divergence=divergence, **sample
        )
    return Certificate(paid, bits, error, examples, validation_error, majority_error, delta, bounds)


def _levels(file: Adapter) -> tuple[int, int]:
    """Number of values that a parameter may have, and the bits that encode those values."""
    if file.codec == "levels":
        r = file.data[0]
        return r, 8 + 24 * r
    if file.codec == "uniform":
        return 2 * file.data[6] + 1, 56
    return (2**16, 0) if file.codec == "float16" else (2**32, 0)
