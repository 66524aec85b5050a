"""Certificates: each bound by hand, what is vacuous, and the promise kept in a simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from d90.adapters import (
    CODECS,
    Adapter,
    BaseModelInfo,
    CodebookCodec,
    Codec,
    Float16Codec,
    Float32Codec,
    SubspaceConfig,
    TaskInfo,
    UniformCodec,
    new_adapter,
)
from d90.adapters.certificate import LISTS, certify
from d90.bounds import occam_hoeffding, occam_kl, pac_bayes_kl
from d90.errors import D90Error
from d90.search.subspace_config import GROUPINGS, METHODS, PROJECTIONS, SCALES

SPACE = SubspaceConfig(projection="onehot", d=200)
BASE = BaseModelInfo("minilm-l6", "", "ab" * 32, D=22_713_986)
USE = TaskInfo("sst2", ("sentence",), ("0", "1"), 128, "accuracy", 0.8)


def made(code: Codec) -> Adapter:
    numbers = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    return new_adapter(numbers, SPACE, BASE, USE).with_codec(code)


def test_lists_are_as_long_as_the_tables() -> None:
    assert {
        "projection": len(PROJECTIONS),
        "scale": len(SCALES),
        "method": len(METHODS),
        "groups": len(GROUPINGS),
        "code": len(CODECS),
    } == LISTS


@pytest.mark.parametrize(
    ("code", "levels", "codebook"),
    [
        (CodebookCodec((-1.0, 0.0, 1.0)), 3, 8 + 24 * 3),
        (UniformCodec(1.0), 5, 56),  # The largest of the numbers is nearest to 2 steps.
        (Float16Codec(), 2**16, 0),
        (Float32Codec(), 2**32, 0),
    ],
)
def test_each_bound_by_hand(code: Codec, levels: int, codebook: int) -> None:
    file = made(code)
    found = certify(
        file, wrong=600, examples=6000, majority_error=0.45, validation_error=0.12, delta=0.04
    )
    # d: 15; bytes: gamma; two seeds of 0: 2; lists: 2 + 2 + 1 + log2(3) + 2; rate and epoch: 16.
    about = 2 * (len(file.data) + 1).bit_length() - 1
    other = about + 15 + 2 + 7 + math.log2(3) + 16
    assert found.bits == pytest.approx(8 * len(file.data) + other)
    share = {"examples": 6000, "delta": 0.01}
    by_levels = 200 * math.log2(levels) + codebook + other
    assert list(found.bounds.values()) == pytest.approx(
        [
            0.1 + math.sqrt((by_levels * math.log(2) + math.log(100)) / 12_000),
            occam_hoeffding(0.1, bits=found.bits, **share),
            occam_kl(0.1, bits=found.bits, **share),
            pac_bayes_kl(
                0.1,
                divergence=found.bits * math.log(2) + 2 * math.log(found.bits),
                **share,
            ),
        ]
    )


def test_vacuous_is_said() -> None:
    few = certify(
        made(Float32Codec()), wrong=1, examples=100, majority_error=0.4, validation_error=0.1
    )
    assert few.sentence().startswith("vacuous")
    assert json.loads(few.to_json())["vacuous"] is True
    many = certify(
        made(CodebookCodec((-1.0, 1.0))),
        wrong=10_000,
        examples=100_000,
        majority_error=0.44,
        validation_error=0.1,
    )
    assert "points below the majority class" in many.sentence()
    name, value = many.tightest
    assert name == "finite hypotheses (Chernoff, kl)"
    assert value == min(many.bounds.values())
    with pytest.raises(D90Error, match="examples is 0"):
        certify(made(Float16Codec()), wrong=0, examples=0, majority_error=0.4, validation_error=0.1)


def test_the_promise_holds_for_the_best_of_many_classifiers() -> None:
    """All files of 8 numbers of 2 levels label at random: the one that fits best is chosen.

    Each classifier's true error is 1/2. Over 300 draws of 400 examples the lowest of the four
    bounds may be below it in at most a share delta, and with so much left over it never is.
    """
    space = SubspaceConfig(projection="onehot", d=8)
    numbers = np.array([-1, 1] * 4, dtype=np.float32)
    file = new_adapter(numbers, space, BASE, USE).with_codec(CodebookCodec((-1.0, 1.0)))
    generator = np.random.default_rng(0)
    failures = 0
    for _ in range(300):
        wrong = int(generator.binomial(400, 0.5, size=2**8).min())
        found = certify(
            file, wrong=wrong, examples=400, majority_error=0.5, validation_error=0.5, delta=0.2
        )
        failures += found.tightest[1] < 0.5
    assert failures <= 0.2 * 300
