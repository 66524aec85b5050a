"""Processes of one run, one after the other in this process."""

from __future__ import annotations

from torch import Tensor, stack

from d90.distributed.process_group import ProcessGroup


class Rank(ProcessGroup):
    """One of several processes: keeps what it would reduce, and reduces with what others kept."""

    kept: list[Tensor]

    def all_reduce_max(self, vector: Tensor) -> None:
        self.kept.append(vector.clone())
        vector.copy_(stack(self.kept).max(0).values)


def ranks(count: int) -> list[Rank]:
    """So many processes; the last one, called last, has reduced with all of them."""
    kept: list[Tensor] = []
    groups = [Rank(rank, count) for rank in range(count)]
    for group in groups:
        object.__setattr__(group, "kept", kept)
    return groups
