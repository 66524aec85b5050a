"""The paper's first protocol: a log-spaced grid of dimensions, every one of them tried."""

from __future__ import annotations

from dataclasses import dataclass, replace

from d90.errors import D90Error
from d90.search.ladder import log_spaced
from d90.search.protocols.base import Protocol, check_range, clip_range

MAX_NUM_DIMS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class GridProtocol(Protocol):
    """Every (d, learning rate, seed) for log-spaced dimensions.

        d_i = round(min_dim * (max_dim / min_dim)^(i / (num_dims - 1))),   i = 0 .. num_dims - 1

    with repeated values dropped. The defaults are the paper's: 100 values from 10 to 10,000, each
    with four learning rates (Aghajanyan et al. 2021, section 3.3).

    Args:
        min_dim: smallest d.
        max_dim: largest d.
        num_dims: number of values before repeated ones are dropped.

    Raises:
        D90Error: for a range or a count that makes no grid.

    >>> GridProtocol(min_dim=10, max_dim=1000, num_dims=5).dimensions()
    (10, 32, 100, 316, 1000)
    """

    min_dim: int = 10
    max_dim: int = 10_000
    num_dims: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.min_dim, self.max_dim)
        if not 2 <= self.num_dims <= MAX_NUM_DIMS:
            raise D90Error(
                f"num_dims is {self.num_dims}: a grid has from 2 to {MAX_NUM_DIMS:,} values of d."
            )

    def dimensions(self) -> tuple[int, ...]:
        return log_spaced(self.min_dim, self.max_dim, self.num_dims)

    def clip(self, low: int, high: int) -> GridProtocol:
        return replace(self, **clip_range(self.min_dim, self.max_dim, low, high))
