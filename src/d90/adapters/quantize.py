"""The same parameters in fewer bits, from the coarsest codec to the finest. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from d90.adapters.adapter import Adapter
from d90.adapters.codecs import (
    CodebookCodec,
    Codec,
    Float16Codec,
    Float32Codec,
    FloatArray,
    UniformCodec,
)
from d90.errors import D90Error

LEVELS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
"""Codebook sizes that are tried."""

STEPS = (2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125, 0.06)
"""Steps of the uniform codec that are tried, in standard deviations of the parameters."""

MAX_BITS = 7
"""Bits per parameter of the largest codebook, 128 levels."""


@dataclass(frozen=True)
class Candidate:
    """An adapter in one codec.

    Attributes:
        name: of the codec and its setting, such as `levels (8)`.
        codec: the codec.
        adapter: the adapter in it.
        size: of its file, in bytes.
    """

    name: str
    codec: Codec
    adapter: Adapter
    size: int


def candidates(file: Adapter) -> tuple[Candidate, ...]:
    """The adapter in every codec that is tried, smallest first, then float16 and float32.

    Codecs that make a larger file than float16 are left out: they are worse in both ways.
    """
    numbers = departures(file)
    spread = float(numbers.std()) or 1.0
    codes: list[tuple[str, Codec]] = [
        *((f"levels ({r})", CodebookCodec(kmeans_codebook(numbers, r))) for r in LEVELS),
        *((f"uniform ({step:g} sd)", UniformCodec(step * spread)) for step in STEPS),
    ]
    found = [candidate for name, code in codes if (candidate := _candidate(name, code, file))]
    plain = [
        candidate
        for name, code in (("float16", Float16Codec()), ("float32", Float32Codec()))
        if (candidate := _candidate(name, code, file))
    ]
    smaller = [candidate for candidate in found if candidate.size < plain[0].size]
    return (*sorted(smaller, key=lambda candidate: candidate.size), *plain)


def encode_at_bits(file: Adapter, bits: int) -> Candidate:
    """The adapter at this many bits per parameter: 32, 16, or 1 to 7 with k-means levels.

    Raises:
        D90Error: another number of bits, or parameters that the codec cannot encode.
    """
    if bits in (16, 32):
        plain: Codec = Float16Codec() if bits == 16 else Float32Codec()
        coded = file.with_codec(plain)
        return Candidate(f"float{bits}", plain, coded, len(coded.to_bytes()))
    if not 1 <= bits <= MAX_BITS:
        raise D90Error(f"bits {bits}: expected auto, 32, 16, or from 1 to {MAX_BITS}.")
    code = CodebookCodec(kmeans_codebook(departures(file), 2**bits))
    coded = file.with_codec(code)
    return Candidate(f"levels ({2**bits})", code, coded, len(coded.to_bytes()))


def departures(file: Adapter) -> FloatArray:
    """z and lam - 1: how far the parameters are from those of the base model."""
    return np.concatenate([file.z, file.lam - np.float32(1)])


def kmeans_codebook(numbers: FloatArray, r: int) -> tuple[float, ...]:
    """r levels for these numbers by k-means, started from their quantiles: deterministic.

    >>> kmeans_codebook(np.array([0, 0.1, 0.9, 1.0], dtype=np.float32), 2)
    (0.05, 0.95)
    """
    from sklearn.cluster import KMeans

    values = numbers.astype(np.float64)[:, None]
    r = min(r, len(np.unique(values)))
    # Each starting point once: many numbers may be equal.
    start = np.unique(np.quantile(values, (np.arange(r) + 0.5) / r))[:, None]
    options: dict[str, Any] = {"init": start, "n_init": 1, "max_iter": 100}
    found = KMeans(len(start), **options).fit(values)
    return tuple(round(float(level), 6) for level in np.sort(found.cluster_centers_[:, 0]))


def _candidate(name: str, code: Codec, file: Adapter) -> Candidate | None:
    try:
        coded = file.with_codec(code)
    except D90Error:  # Too few different levels, or too fine a step.
        return None
    return Candidate(name, code, coded, len(coded.to_bytes()))
