"""Encode the parameters of an adapter in fewer bits. Imports no torch."""

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

CODEBOOK_SIZES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
"""Codebook sizes that are tried."""

RELATIVE_STEPS = (2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125, 0.06)
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
        size: of the adapter's file, in bytes.
    """

    name: str
    codec: Codec
    adapter: Adapter
    size: int


def candidates(adapter: Adapter) -> tuple[Candidate, ...]:
    """The adapter in every codec that is tried, smallest first, then float16 and float32.

    Codecs with a larger file than float16 are excluded: they are both larger and less exact.
    """
    values = departures(adapter)
    spread = float(values.std()) or 1.0
    codecs: list[tuple[str, Codec]] = [
        *((f"levels ({r})", CodebookCodec(kmeans_codebook(values, r))) for r in CODEBOOK_SIZES),
        *((f"uniform ({step:g} sd)", UniformCodec(step * spread)) for step in RELATIVE_STEPS),
    ]
    tried = [candidate for name, codec in codecs if (candidate := _candidate(name, codec, adapter))]
    plain = [
        candidate
        for name, codec in (("float16", Float16Codec()), ("float32", Float32Codec()))
        if (candidate := _candidate(name, codec, adapter))
    ]
    smaller = [candidate for candidate in tried if candidate.size < plain[0].size]
    return (*sorted(smaller, key=lambda candidate: candidate.size), *plain)


def encode_at_bits(adapter: Adapter, bits: int) -> Candidate:
    """The adapter at this many bits per parameter: 32, 16, or 1 to 7 with k-means levels.

    Raises:
        D90Error: an unsupported number of bits, or parameters that the codec cannot encode.
    """
    if bits in (16, 32):
        plain: Codec = Float16Codec() if bits == 16 else Float32Codec()
        coded = adapter.with_codec(plain)
        return Candidate(f"float{bits}", plain, coded, len(coded.to_bytes()))
    if not 1 <= bits <= MAX_BITS:
        raise D90Error(f"bits {bits}: expected auto, 32, 16, or from 1 to {MAX_BITS}.")
    codec = CodebookCodec(kmeans_codebook(departures(adapter), 2**bits))
    coded = adapter.with_codec(codec)
    return Candidate(f"levels ({2**bits})", codec, coded, len(coded.to_bytes()))


def departures(adapter: Adapter) -> FloatArray:
    """z and lam - 1: how far the parameters are from those of the base model."""
    return np.concatenate([adapter.z, adapter.lam - np.float32(1)])


def kmeans_codebook(values: FloatArray, r: int) -> tuple[float, ...]:
    """r levels for these values by k-means, deterministic: initialized at their quantiles.

    >>> kmeans_codebook(np.array([0, 0.1, 0.9, 1.0], dtype=np.float32), 2)
    (0.05, 0.95)
    """
    from sklearn.cluster import KMeans

    points = values.astype(np.float64)[:, None]
    r = min(r, len(np.unique(points)))
    # Unique, since many values may be equal.
    start = np.unique(np.quantile(points, (np.arange(r) + 0.5) / r))[:, None]
    options: dict[str, Any] = {"init": start, "n_init": 1, "max_iter": 100}
    clustering = KMeans(len(start), **options).fit(points)
    return tuple(round(float(level), 6) for level in np.sort(clustering.cluster_centers_[:, 0]))


def _candidate(name: str, codec: Codec, adapter: Adapter) -> Candidate | None:
    try:
        coded = adapter.with_codec(codec)
    except D90Error:  # Too few different levels, or too fine a step.
        return None
    return Candidate(name, codec, coded, len(coded.to_bytes()))
