"""A PostgreSQL server of one's own, on loopback: started by the tests, gone after them."""

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
    """One server in a folder of its own; it trusts whoever is on this machine.

    Args:
        programs: folder of `initdb` and `postgres`.
        folder: where its data go; its user's.
        user: whom it runs as, since it refuses to run as root.
    """

    def __init__(self, programs: Path, folder: Path, user: dict[str, Any]) -> None:
        self._programs, self._folder, self._user = programs, folder, user
        self._process: subprocess.Popen[Any] | None = None
        self._log = folder / "log"
        self.port = _free_port()
        data = ("-D", folder / "data", "-U", "d90", "--auth=trust", "--no-sync", "-E", "UTF8")
        made = subprocess.run(
            [programs / "initdb", *data],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=folder,
            **user,
        )
        if made.returncode:
            raise RuntimeError(made.stdout)

    def start(self) -> None:
        """Start it, and wait until it answers."""
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
        """Stop it and end its connections; a crash is one without a farewell."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        self._process.wait()

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows that a statement gives."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str) -> str:
        """Of a database, as a user gives it."""
        return f"postgresql://d90@127.0.0.1:{self.port}/{database}"

    def drop_connections(self, database: str) -> int:
        """End every connection to a database, as an administrator does; how many there were."""
        ended = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        )
        return len(ended)


def missing() -> str | None:
    """Why no server can be started here, or None."""
    return None if _programs() else "no PostgreSQL server here: apt-get install postgresql"


@contextmanager
def running() -> Iterator[Server]:
    """A server, which ends with the context.

    Raises:
        RuntimeError: it cannot be started, and what it said.
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
    """Debian keeps the programs of each version in a folder that is not in PATH."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
