"""Two network namespaces and the link between them: two machines as far as a program can tell.

Debian's iproute2, and root. A fast link is a veth pair. A thin one is a veth pair with `netem`
where the kernel has it, else two TAP devices with `benchmarks.wire.relay` between them.
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
"""The name of either end, in its namespace."""

PORT = 29400


@dataclass(frozen=True)
class Link:
    """Two namespaces that reach each other.

    Attributes:
        namespaces: their names.
        how: what the link is made of.
    """

    namespaces: tuple[str, str]
    how: str

    def address(self, end: int) -> str:
        return f"10.90.0.{end + 1}"

    def start(self, end: int, arguments: Sequence[object], **environment: str) -> subprocess.Popen:
        """Start `python ARGUMENTS...` at one end; its standard output is a pipe."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespaces[end], sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )


def missing() -> str | None:
    """Why there can be no namespaces here; None where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need Debian's iproute2"
    name = f"d90-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"no network namespaces here: {made.stderr.strip()}"
    try:
        _ip("-n", name, "link", "add", DEVICE, "type", "veth", "peer", "name", "other")
        return None
    except subprocess.CalledProcessError as error:
        return f"no veth devices here: {error.stderr.strip()}"
    finally:
        _ip("netns", "del", name)


@contextmanager
def link(rate: float | None = None, delay: float = 0.0) -> Iterator[Link]:
    """A link, which is gone afterwards, however that comes.

    Args:
        rate: bits a second each way; None for a link that nothing holds back.
        delay: seconds each way.
    """
    names = f"d90-{os.getpid()}-a", f"d90-{os.getpid()}-b"
    with ExitStack() as undo:
        for name in names:
            _ip("netns", "add", name)
            undo.callback(_quietly, "netns", "del", name)
        if rate is None or _netem(names[0]):
            how = _join_by_veth(names, rate, delay)
        else:
            how = _join_by_relay(names, rate, delay, undo)
        made = Link(names, how)
        for end, name in enumerate(names):
            _ip("-n", name, "addr", "add", f"{made.address(end)}/24", "dev", DEVICE)
            _ip("-n", name, "link", "set", DEVICE, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield made


def _netem(name: str) -> bool:
    """Whether this kernel has netem, tried on the loopback of a namespace."""
    command = ["tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    if shutil.which("tc") is None or subprocess.run(command, capture_output=True).returncode != 0:
        return False
    subprocess.run(["tc", "-n", name, "qdisc", "del", "dev", "lo", "root"], check=True)
    return True


def _join_by_veth(names: tuple[str, str], rate: float | None, delay: float) -> str:
    first, second = names
    _ip("-n", first, "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", second)
    if rate is None:
        return "veth, nothing held back"
    for name in names:
        # Frames as on a wire: without this netem is given 64 kB at a time.
        _ip("-n", name, "link", "set", DEVICE, "gso_max_segs", "1")
        shaped = ["netem", "delay", f"{1000 * delay:g}ms", "rate", f"{rate:g}bit", "limit", QUEUE]
        command = ["tc", "-n", name, "qdisc", "add", "dev", DEVICE, "root", *map(str, shaped)]
        subprocess.run(command, check=True, capture_output=True)
    return "veth, netem"


def _join_by_relay(names: tuple[str, str], rate: float, delay: float, undo: ExitStack) -> str:
    taps = [f"d90{end}{os.getpid() % 10**7}" for end in "ab"]
    relay = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.wire.relay", *taps, str(rate), str(delay)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    undo.callback(_end, relay)
    assert relay.stdout is not None
    if relay.stdout.readline().strip() != "ready":
        raise RuntimeError("the relay of the thin link did not start: is there a /dev/net/tun?")
    for tap, name in zip(taps, names, strict=True):
        _ip("link", "set", tap, "netns", name, "name", DEVICE)
    return "TAP devices and a relay (this kernel has no netem)"


@dataclass(frozen=True)
class Given:
    """What a link gives.

    Attributes:
        round_trip: median seconds of a small message there and back.
        rates: bits a second of payload, from the first end and from the second.
    """

    round_trip: float
    rates: tuple[float, float]

    def __str__(self) -> str:
        there, back = (f"{rate / 1e6:,.3f}" for rate in self.rates)
        return f"round trip {1000 * self.round_trip:.1f} ms, {there} and {back} Mbit/s of payload"


def verify(made: Link, size: int) -> Given:
    """Measure the link with a small message, twenty times, and one of `size` bytes each way."""
    script = Path(__file__).with_name("probe.py")
    answers = made.start(1, [script, "answer", made.address(1), PORT, size])
    try:
        asks = made.start(0, [script, "ask", made.address(1), PORT, size])
        said, _ = asks.communicate(timeout=120)
    finally:
        _end(answers)
    *trips, there, back = map(float, said.split())
    return Given(statistics.median(trips), (there, back))


def sent_bytes(device: str = DEVICE) -> int:
    """Bytes that have left through a device of this namespace, by the kernel's count."""
    return int(Path(f"/sys/class/net/{device}/statistics/tx_bytes").read_text())


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _quietly(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=False, capture_output=True)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    time.sleep(0.05)
