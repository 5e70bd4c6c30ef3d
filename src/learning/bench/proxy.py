"""Counts round trips: it stands before a server, and sees when a client has spoken and is answered."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from select import select
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Self

LOOPBACK = "127.0.0.1"

PAUSE = 0.005
"""Who has been silent for so many seconds has said all: pieces of one request are not counted one by one."""

Address = tuple[str, int] | str
"""A host and a port, or the path of a unix socket."""


class Proxy:
    """For `with`: listens on a port for each address of a server, passes all on, and counts.

    Attributes:
        addresses: where it listens, in the order of the addresses that it was given.
        trips: how often a client has spoken and was answered.
    """

    def __init__(self, targets: Sequence[Address], *, cluster: bool = False):
        self.trips = 0
        self.listeners = [
            # It calls what is said to be a class, and does nothing with what that returns.
            ThreadingTCPServer((LOOPBACK, 0), partial(self._serve, target))  # type: ignore[arg-type]
            for target in targets
        ]
        self.addresses = [(LOOPBACK, listener.server_address[1]) for listener in self.listeners]
        pairs = zip(targets, self.addresses, strict=True) if cluster else ()
        self._said = {f":{target[1]}\r\n".encode(): f":{address[1]}\r\n".encode() for target, address in pairs}
        """The nodes of a cluster tell clients of each other's ports: they are to hear of ours."""

    def __enter__(self) -> Self:
        for listener in self.listeners:
            listener.daemon_threads = True
            Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self.listeners:
            listener.shutdown()
            listener.server_close()

    def _serve(self, target: Address, client: socket.socket, *_: object) -> None:
        with suppress(OSError), _connected(target) as server:
            self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        spoken = False
        while True:
            for speaker in select([client, server], [], [])[0]:
                said = speaker.recv(1 << 16)
                if not said:
                    return
                if speaker is client:
                    while select([client], [], [], PAUSE)[0] and (more := client.recv(1 << 16)):
                        said += more
                    spoken = True
                    server.sendall(said)
                else:
                    self.trips += spoken
                    spoken = False
                    for old, new in self._said.items():
                        said = said.replace(old, new)
                    client.sendall(said)


def _connected(target: Address) -> socket.socket:
    if isinstance(target, tuple):
        return socket.create_connection(target)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(target)
    return connection
