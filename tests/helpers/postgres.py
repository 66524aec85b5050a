"""A temporary PostgreSQL server on loopback, started and removed by the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

STARTING_SECONDS = 30


class Server:
    """A server in its own folder that trusts every local user.

    Args:
        programs: folder of `initdb` and `postgres`.
        folder: data folder, owned by the user that the server runs as.
        user: options of `subprocess` for that user: the server refuses to run as root.
    """

    def __init__(self, programs: Path, folder: Path, user: dict[str, Any]) -> None:
        self._programs, self._folder, self._user = programs, folder, user
        self._process: subprocess.Popen[Any] | None = None
        self._log = folder / "log"
        self.port = _free_port()
        data = ("-D", folder / "data", "-U", "d90", "--auth=trust", "--no-sync", "-E", "UTF8")
        initialized = subprocess.run(
            [programs / "initdb", *data],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=folder,
            **user,
        )
        if initialized.returncode:
            raise RuntimeError(initialized.stdout)

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = (
            *(
                "-D",
                self._folder / "data",
                "-p",
                str(self.port),
                "-c",
                "listen_addresses=127.0.0.1",
            ),
            *("-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB"),
        )
        with self._log.open("ab") as log:
            process: subprocess.Popen[Any] = subprocess.Popen(
                [self._programs / "postgres", *options], stdout=log, stderr=log, **self._user
            )
        self._process = process
        deadline = time.monotonic() + STARTING_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self._log.read_text()) from None
                time.sleep(0.1)

    def stop(self, *, crash: bool = False) -> None:
        """Stop the server and close its connections; `crash` skips the clean shutdown."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        self._process.wait()

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute a statement and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://d90@127.0.0.1:{self.port}/{database}"

    def drop_connections(self, database: str) -> int:
        """Terminate every connection to a database; return how many there were."""
        ended = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        )
        return len(ended)


def missing() -> str | None:
    """Why no server can be started on this machine, or None."""
    return None if _programs() else "no PostgreSQL server is installed: apt-get install postgresql"


@contextmanager
def running() -> Iterator[Server]:
    """A server that is stopped and removed with the context.

    Raises:
        RuntimeError: it cannot be started; with its log.
    """
    programs = _programs()
    assert programs is not None, missing()
    folder = Path(tempfile.mkdtemp(prefix="d90-postgres-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = _account()
        os.chown(folder, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    try:
        server = Server(programs, folder, user)
        server.start()
        try:
            yield server
        finally:
            server.stop(crash=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """The folder of the programs, which Debian keeps outside PATH."""
    initdb = shutil.which("initdb")
    folders = [Path(initdb).parent] if initdb else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
