"""A TCP proxy between a worker and PostgreSQL that fails in the ways networks and servers do.

    with Proxy("127.0.0.1", 5432) as proxy:
        connect(port=proxy.port)
        proxy.swallow()                 # half-open: all is acknowledged, nothing is answered
        proxy.reset()                   # each link ends with a RST
        proxy.lose_answers(3)           # what is written is committed, and the client never hears of it

It reads the frames of the protocol: encryption is refused, and answers are forwarded whole.
"""

import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

ENCRYPTION = {80877103, 80877104}  # SSLRequest, GSSENCRequest
CANCEL = 80877102
RST = struct.pack("ii", 1, 0)
BYTES = 65536
CONNECT_SECONDS = 5.0
# What is committed when its answer is lost.
WRITES = re.compile(rb"COMMIT|INSERT|UPDATE|DELETE")


class Link:
    """One client's connection, and the proxy's own to the server."""

    def __init__(self, proxy: "Proxy", client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server: socket.socket | None = None
        self.is_swallowing = proxy.swallows_new
        self.query = b""
        self._lock = threading.Lock()
        self._is_over = False

    def run(self) -> None:
        """Until one side ends."""
        try:
            self._open()
            if self.server is not None:
                back = threading.Thread(target=self._guarded, args=(self._answers,), daemon=True)
                back.start()
                self._guarded(self._questions)
                back.join()
        except OSError:
            pass  # no server, or a client that has gone
        finally:
            self.end()
            self.proxy.links.discard(self)

    def _open(self) -> None:
        """Refuse encryption, then connect and pass the first message on."""
        while True:
            head = _exactly(self.client, 8)
            length, code = struct.unpack("!ii", head)
            if code not in ENCRYPTION:
                break
            if not self.is_swallowing:
                self.client.sendall(b"N")
        rest = _exactly(self.client, length - 8)
        if self.is_swallowing:
            self.proxy.faults["swallowed connect"] += 1
            while self.client.recv(BYTES):
                pass
            return
        if code == CANCEL:
            self.proxy.faults["cancel"] += 1
        else:
            self.proxy.said[""].append(rest)
        self.server = socket.create_connection(self.proxy.target, CONNECT_SECONDS)
        self.server.settimeout(None)
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.sendall(head + rest)

    def _guarded(self, pump: Callable[[], None]) -> None:
        try:
            pump()
        except OSError:
            pass  # the other direction, or a test, has ended it
        finally:
            self.end()

    def _questions(self) -> None:
        assert self.server is not None
        for message in _messages(self.client):
            if message[:1] in {b"Q", b"P"}:
                self.query = message
                self.proxy.said[message[:1].decode()].append(message[5:])
            self._wait()
            if self.is_swallowing:
                self.proxy.faults["swallowed"] += 1
            else:
                self.server.sendall(message)

    def _answers(self) -> None:
        """Forward answers as far as they are whole; one that is to be lost ends the link."""
        assert self.server is not None
        held, has_failed = b"", False
        for message in _messages(self.server):
            if message[:1] == b"A" and self.proxy.is_deaf:
                self.proxy.faults["notifications dropped"] += 1
                continue
            held += message
            has_failed = has_failed or message[:1] == b"E"
            # Whole when the server is ready again, asks something, or speaks unasked.
            if message[:1] not in {b"Z", b"R", b"A", b"N", b"E", b"G", b"H", b"W"}:
                continue
            if message[:1] == b"Z":
                is_committed = message[5:6] == b"I" and not has_failed
                if is_committed and self.proxy.takes(self.query):
                    self.reset()
                    return
                has_failed = False
            self._wait()
            if not self.is_swallowing:
                self.client.sendall(held)
            held = b""

    def _wait(self) -> None:
        if self.proxy.latency:
            time.sleep(self.proxy.latency)

    def reset(self) -> None:
        """End it with a RST to the client, as a router that has forgotten it does."""
        with suppress(OSError):
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        self.end(how=socket.SHUT_RD)

    def end(self, how: int = socket.SHUT_RDWR) -> None:
        """Close both; `close` alone would leave a thread in `recv`, and send nothing."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            for end, way in ((self.client, how), (self.server, socket.SHUT_RDWR)):
                if end is not None:
                    with suppress(OSError):
                        end.shutdown(way)
                    end.close()


class Proxy:
    """Listens on `port` of 127.0.0.1 and forwards to *host*:*port*; `faults` counts what it did."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.links: set[Link] = set()
        self.faults: Counter[str] = Counter()
        # All that clients have said, by the type of message; "" is the first of each.
        self.said: dict[str, list[bytes]] = {"": [], "Q": [], "P": []}
        self.latency = 0.0
        self.is_deaf = False
        self.swallows_new = False
        self._losses = 0
        self._lost = WRITES
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(CONNECT_SECONDS)
        for link in list(self.links):
            link.end()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(self, client)
            self.links.add(link)
            threading.Thread(target=link.run, name="fault-link", daemon=True).start()

    def swallow(self, *, new: bool = False) -> int:
        """Answer nothing any more on the links there are, and with *new* on those to come; how many."""
        self.swallows_new = new
        links = list(self.links)
        for link in links:
            link.is_swallowing = True
        self.faults["half-open"] += len(links)
        return len(links)

    def heal(self) -> None:
        """Links to come work again; what was swallowed stays lost."""
        self.swallows_new = False

    def reset(self) -> int:
        """Reset each link there is; how many."""
        links = list(self.links)
        for link in links:
            link.reset()
        self.faults["reset"] += len(links)
        return len(links)

    def lose_answers(self, count: int, pattern: bytes = WRITES.pattern) -> None:
        """The next *count* statements that match are committed, and end their link without an answer."""
        with self._lock:
            self._lost, self._losses = re.compile(pattern, re.DOTALL), count

    @property
    def answers_to_lose(self) -> int:
        """How many of them are still to come."""
        return self._losses

    def takes(self, query: bytes) -> bool:
        """Whether the answer to this query is one to lose."""
        with self._lock:
            if self._losses < 1 or not self._lost.search(query):
                return False
            self._losses -= 1
            self.faults["lost answer"] += 1
            return True


def _messages(end: socket.socket) -> Iterator[bytes]:
    """Whole messages (type, length, body) of either side."""
    buffer = bytearray()
    while data := end.recv(BYTES):
        buffer += data
        while len(buffer) >= 5:
            size = 1 + struct.unpack_from("!i", buffer, 1)[0]
            if len(buffer) < size:
                break
            yield bytes(buffer[:size])
            del buffer[:size]


def _exactly(end: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        data = end.recv(count - len(found))
        if not data:
            raise ConnectionError("it ended before it began")
        found += data
    return found
