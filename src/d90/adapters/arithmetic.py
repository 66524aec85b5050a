"""Adapters as vectors: their cosine similarities, and sums of those that share a subspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from d90.adapters.adapter import Adapter, assert_same_subspace
from d90.adapters.codecs import Float32Codec
from d90.adapters.quantize import departures
from d90.errors import D90Error

MEAN, SUM = "mean", "sum"
REDUCTIONS = (MEAN, SUM)


def cosine_similarities(files: Sequence[Adapter]) -> NDArray[np.float64]:
    """The cosine similarity of each pair of adapters, shape (adapters, adapters).

    Computed on z, followed by lam - 1 in SAID. If the columns of P are orthogonal and of equal
    norm, it equals that of the weight changes.

    Raises:
        D90Error: adapters of different subspaces or base models; an adapter of zeros.
    """
    assert_same_subspace(files)
    rows = np.stack([departures(file).astype(np.float64) for file in files])
    lengths = np.linalg.norm(rows, axis=1)
    if (lengths == 0).any():
        raise D90Error("an adapter of zeros has no direction: it is the base model.")
    rows /= lengths[:, None]
    return np.clip(rows @ rows.T, -1, 1)


def combine(files: Sequence[Adapter], reduction: str = MEAN) -> Adapter:
    """The mean or the sum of adapters, in float32, for the task of the first one.

    Raises:
        D90Error: fewer than two adapters, or different subspaces, base models, kinds or
            classes; an unknown reduction; a parameter of the result that float32 cannot hold.
    """
    if reduction not in REDUCTIONS:
        raise D90Error(f"reduction '{reduction}': expected {' or '.join(REDUCTIONS)}.")
    if len(files) < 2:
        raise D90Error(f"{len(files)} adapter: give two or more to combine.")
    assert_same_subspace(files)
    first = files[0]
    for file in files[1:]:
        if file.task.kind != first.task.kind or file.task.options != first.task.options:
            raise D90Error(
                f"'{first.task.name}' is of another kind, or of another scale, than "
                f"'{file.task.name}': a sum of them has no task."
            )
        if file.task.labels != first.task.labels:
            raise D90Error(
                f"the classes of '{first.task.name}' are {', '.join(first.task.labels)} and "
                f"those of '{file.task.name}' are {', '.join(file.task.labels)}: a sum of them has "
                "no classes."
            )
    total = np.sum([departures(file).astype(np.float64) for file in files], axis=0)
    with np.errstate(over="ignore"):  # `with_codec` refuses what is not finite.
        parameters = (total / len(files) if reduction == MEAN else total).astype(np.float32)
    parameters[first.d - first.m :] += np.float32(1)
    # The metric is unknown until the result is evaluated.
    task = replace(first.task, metric_value=float("nan"))
    return replace(first, parameters=parameters, task=task).with_codec(Float32Codec())
