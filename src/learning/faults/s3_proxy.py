"""A proxy before an S3 server that does to requests what may happen to them on their way."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CODES = {
    "403": "AccessDenied",
    "404": "NoSuchKey",
    "409": "ConditionalRequestConflict",
    "429": "TooManyRequests",
    "500": "InternalError",
    "503": "SlowDown",
}

PASSING = ("500", "503", "cut before", "cut upload", "cut within", "cut after", "500 after")
"""Faults that are over at once. Those that hang last until the client gives up."""


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the server, counts them, and does to them what `faults` say, each to one."""

    daemon_threads = True

    def __init__(self, endpoint: str, one_at_a_time: bool = False):
        super().__init__(("127.0.0.1", 0), _Handler)
        host, _, port = endpoint.partition("://")[2].partition(":")
        self.target = host, int(port)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen: Counter[str] = Counter()
        self.faults: list[tuple[str, str]] = []
        """Pairs of a kind of request, such as PUT or LIST, and what happens to the next one of it."""
        self._lock = threading.Lock()
        self.turn = threading.Lock() if one_at_a_time else nullcontext()
        """Held while the server answers a request."""

    def fault(self, kind: str) -> str:
        """What happens to this request, if anything does."""
        with self._lock:
            self.seen[kind] += 1
            at = next((at for at, (wanted, _) in enumerate(self.faults) if wanted == kind), None)
            return "" if at is None else self.faults.pop(at)[1]

    @contextmanager
    def lasting(self, kind: str, fault: str) -> Iterator[None]:
        """Let it happen to all requests of a kind, as long as the block runs."""
        self.faults[:] = [(kind, fault)] * 100_000
        try:
            yield
        finally:
            self.faults.clear()

    def handle_error(self, *_: object) -> None:
        """Nothing to say: the client has gone, or we have cut it off."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_one_request(self) -> None:
        self.close_connection = True
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        self.close_connection = True  # whatever the client wants
        what, _, when = self.server.fault(self._kind()).partition(" ")
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size // 2 if when == "upload" else size)
        passes = not what or when in ("upload", "within", "after")
        answer = self._passed_on(body, whole=when != "upload") if passes else b""
        match what:
            case "hang":
                with suppress(OSError):
                    self.connection.recv(1)
            case "cut":
                self.wfile.write(answer[:-20] if when == "within" else b"")
                self.connection.shutdown(socket.SHUT_RDWR)
            case "":
                self.wfile.write(answer)
            case status:
                told = f"<Error><Code>{CODES[status]}</Code></Error>"
                lines = [f"HTTP/1.1 {status} Oh", "Connection: close", f"Content-Length: {len(told)}", "", told]
                self.wfile.write("\r\n".join(lines).encode())

    def _kind(self) -> str:
        return "LIST" if self.command == "GET" and "list-type" in self.path else self.command

    def _passed_on(self, body: bytes, whole: bool) -> bytes:
        """The server's answer."""
        with self.server.turn, socket.create_connection(self.server.target) as upstream:
            self.headers["Connection"] = "close"
            del self.headers["Expect"]  # the client has been told to go on
            lines = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items()), "", ""]
            upstream.sendall("\r\n".join(lines).encode() + body)
            if not whole:
                upstream.shutdown(socket.SHUT_WR)
            answer = b""
            while data := upstream.recv(65536):
                answer += data
            return answer


@contextmanager
def proxied(endpoint: str, *, one_at_a_time: bool = False) -> Iterator[Proxy]:
    """A proxy before this server, as long as the block runs.

    Args:
        one_at_a_time: whether a request waits until the one before is answered, for a server that mixes them up.
    """
    with Proxy(endpoint, one_at_a_time) as proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
