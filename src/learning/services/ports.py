"""Ports that nobody uses: the system chooses them."""

import socket
from contextlib import ExitStack

from .errors import ServiceError

LOOPBACK = "127.0.0.1"


class PortTaken(ServiceError):
    """Another program has taken a port between its choice and its use."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that are free now, all different."""
    with ExitStack() as held:
        holders = [held.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.bind((LOOPBACK, 0))
        return [holder.getsockname()[1] for holder in holders]
