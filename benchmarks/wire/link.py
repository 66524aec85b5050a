"""Two network namespaces and the link between them, which simulate two machines.

Needs root and Debian's iproute2. The fast link is a veth pair. The slow link is a veth pair with
`netem` if the kernel has it, otherwise two TAP devices with `benchmarks.wire.relay` between them.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.wire.relay import QUEUE

DEVICE = "wire"
"""Name of the network device in each namespace."""

PORT = 29400


@dataclass(frozen=True)
class Link:
    """Two connected network namespaces.

    Attributes:
        namespaces: their names.
        kind: the devices that the link consists of.
    """

    namespaces: tuple[str, str]
    kind: str

    def address(self, end: int) -> str:
        return f"10.90.0.{end + 1}"

    def start(self, end: int, arguments: Sequence[object], **environment: str) -> subprocess.Popen:
        """Start `python ARGUMENTS...` in one namespace, with standard output as a pipe."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespaces[end], sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )


def missing() -> str | None:
    """The reason why network namespaces are unavailable; None if they are available."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need Debian's iproute2"
    name = f"d90-try-{os.getpid()}"
    result = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if result.returncode != 0:
        return f"network namespaces are unavailable: {result.stderr.strip()}"
    try:
        _ip("-n", name, "link", "add", DEVICE, "type", "veth", "peer", "name", "other")
        return None
    except subprocess.CalledProcessError as error:
        return f"veth devices are unavailable: {error.stderr.strip()}"
    finally:
        _ip("netns", "del", name)


@contextmanager
def link(rate: float | None = None, delay: float = 0.0) -> Iterator[Link]:
    """Create a link, and remove it on exit from the block, also after an exception.

    Args:
        rate: bits per second each way; None for an unlimited link.
        delay: seconds each way.
    """
    names = f"d90-{os.getpid()}-a", f"d90-{os.getpid()}-b"
    with ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_quietly, "netns", "del", name)
        if rate is None or _netem(names[0]):
            kind = _join_by_veth(names, rate, delay)
        else:
            kind = _join_by_relay(names, rate, delay, stack)
        pair = Link(names, kind)
        for end, name in enumerate(names):
            _ip("-n", name, "addr", "add", f"{pair.address(end)}/24", "dev", DEVICE)
            _ip("-n", name, "link", "set", DEVICE, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield pair


def _netem(name: str) -> bool:
    """Whether this kernel has netem, by a trial on the loopback device of a namespace."""
    command = ["tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    if shutil.which("tc") is None or subprocess.run(command, capture_output=True).returncode != 0:
        return False
    subprocess.run(["tc", "-n", name, "qdisc", "del", "dev", "lo", "root"], check=True)
    return True


def _join_by_veth(names: tuple[str, str], rate: float | None, delay: float) -> str:
    first, second = names
    _ip("-n", first, "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", second)
    if rate is None:
        return "veth, unlimited"
    for name in names:
        # One frame at a time, as on a wire; otherwise netem receives segments of 64 kB.
        _ip("-n", name, "link", "set", DEVICE, "gso_max_segs", "1")
        shaped = ["netem", "delay", f"{1000 * delay:g}ms", "rate", f"{rate:g}bit", "limit", QUEUE]
        command = ["tc", "-n", name, "qdisc", "add", "dev", DEVICE, "root", *map(str, shaped)]
        subprocess.run(command, check=True, capture_output=True)
    return "veth, netem"


def _join_by_relay(names: tuple[str, str], rate: float, delay: float, stack: ExitStack) -> str:
    taps = [f"d90{end}{os.getpid() % 10**7}" for end in "ab"]
    relay = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.wire.relay", *taps, str(rate), str(delay)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(_terminate, relay)
    assert relay.stdout is not None
    if relay.stdout.readline().strip() != "ready":
        raise RuntimeError("the relay of the slow link did not start: does /dev/net/tun exist?")
    for tap, name in zip(taps, names, strict=True):
        _ip("link", "set", tap, "netns", name, "name", DEVICE)
    return "TAP devices and a relay (this kernel has no netem)"


@dataclass(frozen=True)
class LinkSpeed:
    """Measured speed of a link.

    Attributes:
        round_trip: median seconds for a small message there and back.
        rates: payload bits per second, sent by the first end and by the second.
    """

    round_trip: float
    rates: tuple[float, float]

    def __str__(self) -> str:
        there, back = (f"{rate / 1e6:,.3f}" for rate in self.rates)
        return f"round trip {1000 * self.round_trip:.1f} ms, {there} and {back} Mbit/s of payload"


def measure_speed(pair: Link, size: int) -> LinkSpeed:
    """Measure the link with twenty small messages, and one of `size` bytes each way."""
    script = Path(__file__).with_name("probe.py")
    server = pair.start(1, [script, "answer", pair.address(1), PORT, size])
    try:
        client = pair.start(0, [script, "ask", pair.address(1), PORT, size])
        output, _ = client.communicate(timeout=120)
    finally:
        _terminate(server)
    *trips, there, back = map(float, output.split())
    return LinkSpeed(statistics.median(trips), (there, back))


def sent_bytes(device: str = DEVICE) -> int:
    """Bytes sent through a device of this namespace, as counted by the kernel."""
    return int(Path(f"/sys/class/net/{device}/statistics/tx_bytes").read_text())


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _quietly(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=False, capture_output=True)


def _terminate(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    time.sleep(0.05)
