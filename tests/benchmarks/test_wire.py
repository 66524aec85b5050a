"""The slow link: its speed, the bytes sent over it, and the calculated tables."""

from __future__ import annotations

import subprocess

import pytest
from benchmarks.wire import cost
from benchmarks.wire.__main__ import Measurement, bytes_table, fixed_bytes, speed_table, train
from benchmarks.wire.cost import Wire, doubling, ring, sent
from benchmarks.wire.link import Link, link, measure_speed, missing
from benchmarks.wire.relay import Schedule
from benchmarks.wire.work import Work, WorkResult

WIRE = Wire("one byte per microsecond", rate=8e6, delay=0.01)
LONG = 4e6


def test_all_reduces_by_hand() -> None:
    # Four workers: 2 * 3 / 4 of 4 MB is 6 s; the ring has 6 rounds of 2 delays, the other 4 of 1.
    assert ring(LONG, 4, WIRE) == pytest.approx(6 + 6 * 2 * 0.01)
    assert doubling(LONG, 4, WIRE) == pytest.approx(6 + 4 * 0.01)
    # Five workers need as many rounds as eight.
    assert doubling(0, 5, WIRE) == doubling(0, 8, WIRE) == pytest.approx(6 * 0.01)
    assert ring(0, 5, WIRE) == pytest.approx(8 * 2 * 0.01)
    # Two workers exchange a short vector in one round, and use the ring for a long one.
    assert ring(1000, 2, WIRE) == pytest.approx(0.001 + 2 * 0.01)
    assert doubling(1000, 2, WIRE) == pytest.approx(0.001 + 0.01)
    assert ring(LONG, 2, WIRE) == pytest.approx(4 + 2 * 2 * 0.01)


def test_bytes_per_optimizer_step() -> None:
    assert sent(361) == pytest.approx(1514)  # 362 floats fill a frame.
    assert sent(1000, fixed=500) == pytest.approx(4004 * 1514 / 1448 + 500)


@pytest.mark.parametrize("schedule", cost.SCHEDULES)
def test_the_table_has_a_row_for_each_link_and_d(schedule: str) -> None:
    lines = cost.table(schedule, compute=1.0).splitlines()
    assert len(lines) == 2 + len(cost.WIRES) * len(cost.TRAINED)
    assert lines[0].count("n = ") == len(cost.WORKERS)
    full = next(line for line in lines if "1 Mbit/s" in line and "full" in line)
    assert "h (0%)" in full
    few = next(line for line in lines if "10 Gbit/s" in line and "d = 200" in line)
    assert few.split("|")[3].strip() == "1.00 s (100%)"


def test_frames_wait_for_those_before_them() -> None:
    schedule = Schedule(rate=8000, delay=0.5)
    assert schedule.arrival(10.0, 1000) == 11.5
    assert schedule.arrival(10.0, 500) == 12.0
    assert schedule.arrival(20.0, 1000) == 21.5


def test_tables_of_measurements() -> None:
    work = Work(d=1000, steps=2)
    fast = Measurement(False, work, WorkResult(4_386_178, [1.0, 3.0], 4004, 0, 5000))
    slow = Measurement(True, work, WorkResult(4_386_178, [4.0, 4.0], 4004, 0, 5200))
    assert speed_table([fast, slow]).splitlines()[-1] == (
        "| d = 1,000 | 32 | 2, 2 | 2.000 s | 4.000 s | 50.0% |"
    )
    assert "| d = 1,000 | 1,000 and 1 | slow | 4,004 | 5,200 | 1.299 |" in bytes_table([fast, slow])
    assert fixed_bytes([fast, slow]) == pytest.approx(5200 - 4004 * 1514 / 1448)


@pytest.fixture
def two_machines() -> None:
    if reason := missing():
        pytest.skip(reason)


def remaining_namespaces(pair: Link) -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in listed.stdout.splitlines()} & set(pair.namespaces)


@pytest.mark.slow
@pytest.mark.usefixtures("two_machines")
def test_training_over_a_slow_link() -> None:
    with link(rate=1e6, delay=0.05) as pair:
        speed = measure_speed(pair, 60_000)
        assert 0.1 <= speed.round_trip < 0.2
        assert all(0.7e6 < rate < 1e6 for rate in speed.rates)
        result = train(pair, Work(d=100, steps=2, warmup_steps=1, batch_size=4, length=16))
    assert (result.weights, result.counted, result.others) == (4_386_178, 4 * 101, 0)
    # Headers, acknowledgements and gloo's own messages exceed 101 values; theta is never sent.
    assert result.counted < result.kernel < 4000
    assert min(result.seconds) > 0.05


@pytest.mark.usefixtures("two_machines")
def test_a_link_is_removed_after_ctrl_c() -> None:
    def interrupt() -> None:
        with link(rate=1e6) as pair:
            created.append(pair)
            assert len(remaining_namespaces(pair)) == 2
            raise KeyboardInterrupt

    created: list[Link] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert remaining_namespaces(created[0]) == set()
