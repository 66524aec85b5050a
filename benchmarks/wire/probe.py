"""One end of a measurement of a link: `probe.py answer|ask ADDRESS PORT SIZE`.

It asks twenty times with one byte, sends SIZE bytes, and gets as many. Prints the seconds of each
answer, and the bits a second of either transfer, as the end that got it saw it. No torch here.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

ASKED = 20


def receive(connection: socket.socket, size: int) -> float:
    """Bits a second, from the first to the last byte of a transfer."""
    size -= len(connection.recv(1))
    start = time.monotonic()
    left = size
    while left:
        left -= len(connection.recv(min(left, 65536)))
    return 8 * size / (time.monotonic() - start)


def answer(address: str, port: int, size: int) -> None:
    with socket.create_server((address, port)) as server:
        connection, _ = server.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(ASKED):
                connection.sendall(connection.recv(1))
            rate = receive(connection, size)
            connection.sendall(struct.pack("d", rate))
            connection.recv(1)
            connection.sendall(bytes(size))
            connection.recv(1)


def ask(address: str, port: int, size: int) -> None:
    with _connected(address, port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(ASKED):
            start = time.monotonic()
            connection.sendall(b"?")
            connection.recv(1)
            print(time.monotonic() - start)
        connection.sendall(bytes(size))
        print(struct.unpack("d", connection.recv(8, socket.MSG_WAITALL))[0])
        connection.sendall(b"?")
        print(receive(connection, size))
        connection.sendall(b"!")


def _connected(address: str, port: int) -> socket.socket:
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((address, port), timeout=60)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    what, where, number, length = sys.argv[1:]
    {"answer": answer, "ask": ask}[what](where, int(number), int(length))
