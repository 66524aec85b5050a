"""Which trials to run next, given the results so far: pure functions, one protocol per file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from d90.errors import D90Error, unknown_name
from d90.search.protocols.adaptive import AdaptiveProtocol
from d90.search.protocols.base import BASELINE_LEARNING_RATES, LEARNING_RATES, Protocol
from d90.search.protocols.bisect import BisectProtocol
from d90.search.protocols.grid import GridProtocol
from d90.search.protocols.listed import ListProtocol

__all__ = [
    "BASELINE_LEARNING_RATES",
    "LEARNING_RATES",
    "PROTOCOLS",
    "AdaptiveProtocol",
    "BisectProtocol",
    "GridProtocol",
    "ListProtocol",
    "Protocol",
    "make_protocol",
    "protocol_name",
]

PROTOCOLS: dict[str, type[Protocol]] = {
    "adaptive": AdaptiveProtocol,
    "bisect": BisectProtocol,
    "grid": GridProtocol,
    "list": ListProtocol,
}


def protocol_name(protocol: Protocol) -> str:
    """The key of its class in `PROTOCOLS`; the class's own name for one defined elsewhere.

    >>> protocol_name(GridProtocol())
    'grid'
    """
    names = {kind: name for name, kind in PROTOCOLS.items()}
    return names.get(type(protocol), type(protocol).__name__)


def make_protocol(
    name: str,
    *,
    dims: Sequence[int] | None = None,
    min_dim: int | None = None,
    max_dim: int | None = None,
    num_dims: int | None = None,
    interval_ratio: float | None = None,
    budget: int | None = None,
    batch: int | None = None,
    learning_rates: Sequence[float] = LEARNING_RATES,
    baseline_learning_rates: Sequence[float] = BASELINE_LEARNING_RATES,
    seeds: Sequence[int] = (0,),
    target_fraction: float = 0.9,
    criterion_of: str = "metric",
) -> Protocol:
    """The protocol with this name; None leaves an argument at the protocol's own default.

    Args:
        name: a key of `PROTOCOLS`.
        dims: the dimensions (`list` only, which needs them).
        min_dim, max_dim: smallest and largest d (`adaptive`, `grid` and `bisect`).
        num_dims: number of dimensions (`grid`).
        interval_ratio, budget, batch: as in `AdaptiveProtocol`.
        learning_rates: of the subspace runs.
        baseline_learning_rates: of the baseline.
        seeds: of the runs; each decides projection, data order and dropout.
        target_fraction: fraction of the full metric that a d must reach to pass.
        criterion_of: what that is a fraction of: `metric` or `gain`.

    Raises:
        D90Error: the name is unknown; an argument is out of its range or not one of the protocol's.

    >>> make_protocol("list", dims=[10, 100]).dimensions()
    (10, 100)
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    own = {
        "dims": dims,
        "min_dim": min_dim,
        "max_dim": max_dim,
        "num_dims": num_dims,
        "interval_ratio": interval_ratio,
        "budget": budget,
        "batch": batch,
    }
    given = {key: value for key, value in own.items() if value is not None}
    for key in given:
        if not _accepts(PROTOCOLS[name], key):
            users = [other for other, kind in PROTOCOLS.items() if _accepts(kind, key)]
            raise D90Error(
                f"protocol '{name}' takes no {key}: leave it out, or choose the protocol "
                f"{' or '.join(users)}."
            )
    if name == "list" and dims is None:
        raise D90Error("protocol 'list' needs dims: list them, as in 10,100,1000.")
    return PROTOCOLS[name](
        learning_rates=learning_rates,
        baseline_learning_rates=baseline_learning_rates,
        seeds=seeds,
        target_fraction=target_fraction,
        criterion_of=criterion_of,
        **given,
    )


def _accepts(protocol: type[Protocol], argument: str) -> bool:
    return argument in {field.name for field in fields(protocol)}
