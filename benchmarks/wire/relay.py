"""A link of limited rate between two TAP devices, for kernels without `netem`.

    python -m benchmarks.wire.relay TAP TAP RATE DELAY

Each direction is a queue. A frame leaves it at RATE bits per second, after the frames before it,
and arrives DELAY seconds later. If `QUEUE` frames are already waiting, the next one is dropped, as
in a router. This process creates the devices, and they disappear when it ends.
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
"""Frames in a queue: 1.2 seconds of a 1 Mbit/s link. netem has the same limit."""


class Schedule:
    """Arrival times of frames in one direction.

    Args:
        rate: bits per second.
        delay: seconds from the end of a frame's departure to its arrival.
    """

    def __init__(self, rate: float, delay: float) -> None:
        self._rate, self._delay = rate, delay
        self._free = 0.0

    def arrival(self, now: float, size: int) -> float:
        """Arrival time of a frame of `size` bytes that is queued at `now`."""
        self._free = max(now, self._free) + 8 * size / self._rate
        return self._free + self._delay


def open_tap(name: str) -> int:
    """Create a TAP device; return a file descriptor that reads and writes its frames."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def forward(source: int, target: int, schedule: Schedule) -> tuple[Thread, Thread]:
    """Start threads that forward frames from one device to the other."""
    waiting: Queue[tuple[float, bytes]] = Queue(QUEUE)

    def receive() -> None:
        while True:
            frame = os.read(source, FRAME)
            if waiting.full():
                continue
            try:
                waiting.put_nowait((schedule.arrival(time.monotonic(), len(frame)), frame))
            except Full:
                continue

    def send() -> None:
        while True:
            due, frame = waiting.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                os.write(target, frame)
            except OSError:  # The target device is down.
                continue

    return _start(receive), _start(send)


def _start(function: Callable[[], None]) -> Thread:
    thread = Thread(target=function, daemon=True)
    thread.start()
    return thread


def main(arguments: Sequence[str]) -> None:
    first, second, rate, delay = arguments
    devices = open_tap(first), open_tap(second)
    directions = [(devices[0], devices[1]), (devices[1], devices[0])]
    threads = [
        thread
        for source, target in directions
        for thread in forward(source, target, Schedule(float(rate), float(delay)))
    ]
    print("ready", flush=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1:])
