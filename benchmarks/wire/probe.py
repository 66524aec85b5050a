"""One end of a measurement of a link: `probe.py answer|ask ADDRESS PORT SIZE`.

The asking end sends one byte twenty times and waits for each answer, then sends SIZE bytes and
receives as many. It prints the seconds of each round trip, and the bits per second of both
transfers, measured by their receivers. Does not import torch.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

ROUND_TRIPS = 20


def receive(connection: socket.socket, size: int) -> float:
    """Receive `size` bytes; return bits per second from the first to the last byte."""
    size -= len(connection.recv(1))
    start = time.monotonic()
    remaining = size
    while remaining:
        remaining -= len(connection.recv(min(remaining, 65536)))
    return 8 * size / (time.monotonic() - start)


def answer(address: str, port: int, size: int) -> None:
    with socket.create_server((address, port)) as server:
        connection, _ = server.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(ROUND_TRIPS):
                connection.sendall(connection.recv(1))
            rate = receive(connection, size)
            connection.sendall(struct.pack("d", rate))
            connection.recv(1)
            connection.sendall(bytes(size))
            connection.recv(1)


def ask(address: str, port: int, size: int) -> None:
    with _connect(address, port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(ROUND_TRIPS):
            start = time.monotonic()
            connection.sendall(b"?")
            connection.recv(1)
            print(time.monotonic() - start)
        connection.sendall(bytes(size))
        print(struct.unpack("d", connection.recv(8, socket.MSG_WAITALL))[0])
        connection.sendall(b"?")
        print(receive(connection, size))
        connection.sendall(b"!")


def _connect(address: str, port: int) -> socket.socket:
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((address, port), timeout=60)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    role, address, port, size = sys.argv[1:]
    {"answer": answer, "ask": ask}[role](address, int(port), int(size))
