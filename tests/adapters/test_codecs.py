"""Codecs: their errors, their sizes, and the input that they reject."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d90.adapters import (
    CODECS,
    CodebookCodec,
    Codec,
    Float16Codec,
    Float32Codec,
    UniformCodec,
    entropy_model,
)
from d90.adapters.codecs import FloatArray, codec_name, get_codec
from d90.errors import D90Error

NORMAL = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
ALL: dict[str, Codec] = {
    "float32": Float32Codec(),
    "float16": Float16Codec(),
    "uniform": UniformCodec(0.2),
    "levels": CodebookCodec((-1.5, -0.5, 0.5, 1.5)),
}


def row(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float32)


def test_every_codec_is_tested() -> None:
    assert set(ALL) == set(CODECS)
    assert [codec_name(codec) for codec in ALL.values()] == list(ALL)


@pytest.mark.parametrize("name", CODECS)
def test_encoding_again_is_lossless(name: str) -> None:
    codec = ALL[name]
    once = get_codec(name).decode(codec.encode(NORMAL), len(NORMAL))
    assert once.dtype == np.float32 and once.shape == NORMAL.shape
    twice = get_codec(name).decode(codec.encode(once), len(once))
    assert (once == twice).all()


@pytest.mark.parametrize(
    ("name", "largest"), [("float32", 0.0), ("float16", 4 * 2**-11), ("uniform", 0.1 + 1e-6)]
)
def test_the_error_is_bounded(name: str, largest: float) -> None:
    read = get_codec(name).decode(ALL[name].encode(NORMAL), len(NORMAL))
    assert np.abs(read - NORMAL).max() <= largest


def test_levels_are_the_nearest() -> None:
    read = CodebookCodec.decode(CodebookCodec((0, 1, 10)).encode(row(0.2, 0.7, 4, 6, 99)), 5)
    assert read.tolist() == [0, 1, 1, 10, 10]


def test_the_length_is_the_information_and_a_few_bytes() -> None:
    """Normal values in steps of s have about log2(sqrt(2 pi e) / s) bits each."""
    for step in (0.1, 0.25, 0.5):
        bits = len(NORMAL) * math.log2(math.sqrt(2 * math.pi * math.e) / step)
        length = 8 * len(UniformCodec(step).encode(NORMAL))
        assert length < bits * 1.02 + 8 * (7 + 8)


def test_the_bell_by_hand() -> None:
    """a = 1/2: weights 1/16, 1/2, 1, 1/2, 1/16 of a sum of 17/8."""
    probabilities = (
        entropy_model.bell(entropy_model.ONE // 2, 2)
        / entropy_model.bell(entropy_model.ONE // 2, 2).sum()
    )
    assert probabilities == pytest.approx(np.array([0.5, 4, 8, 4, 0.5]) / 17, abs=1e-5)
    assert (entropy_model.bell(1, 127) > 0).all() and (
        entropy_model.bell(entropy_model.ONE - 1, 127) > 0
    ).all()
    exact = [math.exp(-(k**2) / 2) for k in range(-5, 6)]
    bell = entropy_model.bell(round(entropy_model.ONE * math.exp(-0.5)), 5)
    assert bell / bell.sum() == pytest.approx(np.array(exact) / sum(exact), rel=1e-3, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    values=arrays(np.float32, st.integers(1, 40), elements=st.floats(-8, 8, width=32)),
    step=st.floats(0.1, 4),
)
def test_any_values(values: np.ndarray, step: float) -> None:
    read = UniformCodec.decode(UniformCodec(step).encode(values), len(values))
    assert np.abs(read - values).max() <= step / 2 * (1 + 1e-5) + 1e-6


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(CODECS)), data=st.binary(max_size=60), count=st.integers(1, 20))
def test_any_bytes_decode_or_raise(name: str, data: bytes, count: int) -> None:
    try:
        read = CODECS[name].decode(data, count)
    except D90Error:
        return
    assert read.shape == (count,)
    if name in ("uniform", "levels"):
        assert np.isfinite(read).all()


@pytest.mark.parametrize("step", [0.0, -1.0, math.inf, math.nan, 3e38])
def test_a_step_whose_multiples_are_not_finite(step: float) -> None:
    data = UniformCodec(1.0).encode(row(-2.0, 1.0))
    with pytest.raises(D90Error, match="the step of the coded numbers is"):
        UniformCodec.decode(struct.pack("<f", step) + data[4:], 2)


def test_values_that_cannot_be_encoded() -> None:
    with pytest.raises(D90Error, match="too large for float16"):
        Float16Codec().encode(row(1e6))
    with pytest.raises(D90Error, match="too fine"):
        UniformCodec(0.001).encode(NORMAL)
    with pytest.raises(D90Error, match="different finite levels"):
        CodebookCodec((0.5, 0.5)).encode(NORMAL)
    with pytest.raises(D90Error, match="unknown codec 'float23': did you mean 'float32'"):
        get_codec("float23")


def test_one_byte_more_or_less_is_rejected() -> None:
    for name, codec in ALL.items():
        data = codec.encode(NORMAL[:50])
        for other in (data[:-1], data + b"\0", data + b"\1\0\0\0", data[:2], b""):
            with pytest.raises(D90Error):
                CODECS[name].decode(other, 50)


@pytest.mark.parametrize("codec", [UniformCodec(1.0), CodebookCodec((0.0, 1.0))])
def test_a_hundred_thousand_equal_values(codec: UniformCodec | CodebookCodec) -> None:
    """The most frequent symbol costs some bits, and all that is encoded can be decoded."""
    values = np.zeros(100_000, dtype=np.float32)
    values[17] = 1
    data = codec.encode(values)
    assert len(data) < 200
    assert (type(codec).decode(data, len(values)) == values).all()
    with pytest.raises(D90Error, match="cannot hold 1,000,000 of them"):
        type(codec).decode(data, 10**6)
