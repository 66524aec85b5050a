"""A link between two TAP devices, for kernels without `netem`: it holds frames back.

    python -m benchmarks.wire.relay TAP TAP RATE DELAY

Each direction is a queue. A frame leaves it at RATE bits a second, after those before it, and
arrives DELAY seconds later. Where `QUEUE` frames wait already, the next one is dropped, as a router
would. The devices are made here, and are gone when this process ends.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from queue import Full, Queue
from threading import Thread

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
FRAME = 65536
QUEUE = 100
"""Frames: 1.2 seconds of a full 1 Mbit/s link. netem is given the same limit."""


class Schedule:
    """When frames arrive.

    Args:
        rate: bits a second.
        delay: seconds from the end of a frame's departure to its arrival.
    """

    def __init__(self, rate: float, delay: float) -> None:
        self._rate, self._delay = rate, delay
        self._free = 0.0

    def arrival(self, now: float, size: int) -> float:
        """The time at which a frame of so many bytes, there since `now`, arrives."""
        self._free = max(now, self._free) + 8 * size / self._rate
        return self._free + self._delay


def open_tap(name: str) -> int:
    """A file descriptor that gives and takes the frames of a new TAP device."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def carry(source: int, target: int, schedule: Schedule) -> tuple[Thread, Thread]:
    """Start to carry frames from one device to the other."""
    waiting: Queue[tuple[float, bytes]] = Queue(QUEUE)

    def take() -> None:
        while True:
            frame = os.read(source, FRAME)
            if waiting.full():
                continue
            try:
                waiting.put_nowait((schedule.arrival(time.monotonic(), len(frame)), frame))
            except Full:
                continue

    def give() -> None:
        while True:
            due, frame = waiting.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                os.write(target, frame)
            except OSError:  # The other end is down.
                continue

    return _start(take), _start(give)


def _start(what: Callable[[], None]) -> Thread:
    thread = Thread(target=what, daemon=True)
    thread.start()
    return thread


def main(arguments: Sequence[str]) -> None:
    first, second, rate, delay = arguments
    devices = open_tap(first), open_tap(second)
    ways = [(devices[0], devices[1]), (devices[1], devices[0])]
    threads = [
        thread
        for source, target in ways
        for thread in carry(source, target, Schedule(float(rate), float(delay)))
    ]
    print("ready", flush=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1:])
