"""Collective operations: between two processes, and in a single one."""

from __future__ import annotations

import pytest
import torch
from tests.helpers.gloo import error_of, pair

from d90.distributed.process_group import ProcessGroup, get_process_group
from d90.errors import D90Error


def failures(rank: int) -> dict[str, str]:
    """The errors of each process if only one of them fails."""
    group = get_process_group()

    def fail_on_rank_1() -> None:
        with group.raise_on_all_ranks():
            if rank == 1:
                raise D90Error("no such folder")

    def fail_in_main_process() -> None:
        raise D90Error("a damaged file")

    return {
        "raise_on_all_ranks": error_of(fail_on_rank_1),
        "broadcast_object": error_of(lambda: group.broadcast_object(fail_in_main_process)),
    }


def test_an_error_in_one_process_is_raised_in_all() -> None:
    for errors in pair().run(failures):
        assert errors["raise_on_all_ranks"] == "D90Error: process 1: no such folder"
        assert errors["broadcast_object"] == "D90Error: a damaged file"


def test_shards_partition_the_items() -> None:
    rows = [5, 3, 9, 1, 7]
    shards = [ProcessGroup(rank, 3).shard(rows) for rank in range(3)]
    assert sorted(row for shard in shards for row in shard) == sorted(rows)
    assert [len(shard) for shard in shards] == [2, 2, 1]
    assert ProcessGroup(2, 3).shard([1, 2]) == []


def test_a_single_process_communicates_nothing() -> None:
    group = get_process_group()
    vector = torch.arange(3.0)
    group.all_reduce_sum(vector)
    assert vector.tolist() == [0.0, 1.0, 2.0]
    assert group.broadcast_object(lambda: {"a": 1}) == {"a": 1}
    assert group.all_gather_object("me") == ["me"]
    assert (group.world_size, group.is_main_process) == (1, True)
    with pytest.raises(D90Error, match="as it was"), group.raise_on_all_ranks():
        raise D90Error("as it was")
