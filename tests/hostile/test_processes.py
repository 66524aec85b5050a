"""Addresses where nothing answers, and interrupts while a worker starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import pytest
from tests.hostile.commands import TRAINING
from tests.hostile.ground import Ground, check_refused, run

from d90.errors import D90Error
from d90.executors.processes import _no_interrupts
from d90.executors.ray import _check_reachable


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:x"])
def test_a_cluster_that_is_not_there(address: str, ground: Ground, here: Path) -> None:
    pytest.importorskip("ray")
    names, began = ground.names(), monotonic()
    options = ["--dims", "10", *TRAINING.split(), "--executor", "ray", "--address", address]
    outcome = run(["measure", names["model"], names["task"], *options])
    check_refused(outcome, f"cannot reach the Ray cluster at '{address}'")
    assert monotonic() - began < 30


@pytest.mark.parametrize("address", ["[::1]:99999", "host:-1", "no.such.host.invalid:6379"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(D90Error, match="cannot reach the Ray cluster"):
        _check_reachable(address)


def test_addresses_that_answer_or_have_no_port() -> None:
    for name in ("auto", "local", "a-cluster"):
        _check_reachable(name)
    for scheme in ("", "ray://"):
        with answering(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0])) as port:
            _check_reachable(f"{scheme}127.0.0.1:{port}")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_silent(
    scheme: str, ground: Ground, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr("d90.executors.ray.CONNECT_SECONDS", 0.5)
    names, began = ground.names(), monotonic()
    with answering(None) as port:
        address = f"{scheme}127.0.0.1:{port}"
        options = ["--dims", "10", *TRAINING.split(), "--executor", "ray", "--address", address]
        outcome = run(["measure", names["model"], names["task"], *options])
    check_refused(outcome, f"cannot reach the Ray cluster at '{address}': timed out")
    assert monotonic() - began < 30


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0", b"x" * 99])
def test_a_server_that_is_no_cluster(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(answer) as port, pytest.raises(D90Error, match="there is no Ray cluster"):
        _check_reachable(f"127.0.0.1:{port}")
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with answering(answer) as port:
        _check_reachable(f"127.0.0.1:{port}")


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """The port of a server that accepts one connection and answers so; None is silence."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                if answer is None:
                    over.wait(60)
                else:
                    connection.sendall(answer)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join()


def test_a_worker_is_not_interrupted_while_it_starts(capfd: pytest.CaptureFixture[str]) -> None:
    process = get_context("spawn").Process(target=sleep, args=(0.1,))
    with _no_interrupts():
        process.start()
    assert process.pid is not None
    while process.is_alive():
        os.kill(process.pid, signal.SIGINT)
        sleep(0.02)
    assert (process.exitcode, capfd.readouterr().err) == (0, "")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


INTERRUPT = """
import signal, sys
from d90.__main__ import main
module = sys.argv[1]
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            if name == "signal":
                raise KeyboardInterrupt
            try:
                signal.raise_signal(signal.SIGINT)
            except SWALLOWED:
                print("a library swallows it")
sys.meta_path.insert(0, Finder())
if module == "signal":
    del sys.modules["signal"]
sys.argv[1:] = ["inspect", "missing.st"]
main()
"""


@pytest.mark.parametrize("module", ["signal", "d90.cli", "typer", "d90.adapters"])
def test_an_interrupt_while_modules_load(module: str) -> None:
    """The last is loaded by the command, after those of the command line."""
    swallowed = "()" if module == "d90.adapters" else "BaseException"
    code = INTERRUPT.replace("SWALLOWED", swallowed)
    command = [sys.executable, "-c", code, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted: rerun the command to resume.\n"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_interrupt_after_the_command(rank: str) -> None:
    """As while its process group is ended: only the first process prints."""
    code = (
        "import d90.cli\n"
        "from d90.__main__ import main\n"
        "def interrupted(): raise KeyboardInterrupt\n"
        "d90.cli.main = interrupted\n"
        "main()\n"
    )
    environment = {**os.environ, "RANK": rank, "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    line = "interrupted: rerun the command to resume.\n"
    assert (done.returncode, done.stderr) == (130, line if rank == "0" else "")


def test_an_interrupt_within_an_exec(tmp_path: Path) -> None:
    """As of a dataclass: without more, `python -m` then ends by the signal."""
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "import d90.cli\n"
        "from d90.__main__ import main\n"
        "def run():\n"
        "    try:\n"
        "        exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
        "d90.cli.main = run\n"
        "main()\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (130, "")


def test_where_interrupts_are_ignored_they_stay_so() -> None:
    """As after `nohup`."""
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "sys.argv[1:] = ['--version']\n"
        "from d90.__main__ import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout.endswith("True\n")
