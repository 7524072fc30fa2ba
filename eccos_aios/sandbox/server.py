"""A sandbox core: an OpenAI-compatible HTTP server on the loopback interface."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eccos_aios.connections import shut
from eccos_aios.sandbox.fault import STATUS_ERRORS, Fault, FaultKind
from eccos_aios.sandbox.reply import Reply, canned_reply, completion, completion_chunks, error_body, usage

LOOPBACK = "127.0.0.1"
PEER_CHECK_S = 0.1  # seconds between looks whether the client of a waiting request is still there
JOIN_S = 5.0  # seconds that `stop` gives each of its threads

ReplyFunction = Callable[[dict[str, Any]], Reply]


class SandboxCore:
    """An OpenAI-compatible core on 127.0.0.1 that answers from a function, counts, and fails on demand.

    It serves ``POST /v1/chat/completions`` (text, tool calls, JSON, streams), ``GET /v1/models`` and
    ``GET /stats``. It has no quota of its own: it counts what it is given, for others to judge.

    Parameters
    ----------
    name : str
        The model that it says it is.
    reply : callable, optional
        From the request's body to a `Reply`; a LookupError becomes status 404. Called in the
        request's own thread. Default: `canned_reply`.
    latency_s : float
        Seconds from a request to its answer, where the reply does not say.
    time_scale : float
        Factor on every latency.
    port : int
        0: a free one.
    """

    def __init__(
        self,
        name: str,
        reply: ReplyFunction | None = None,
        *,
        latency_s: float = 0.0,
        time_scale: float = 1.0,
        port: int = 0,
    ) -> None:
        self.name = name
        self.latency_s = latency_s
        self.time_scale = time_scale
        self.reply: ReplyFunction = reply or canned_reply
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._fault: Fault | None = None  # replaced as a whole, so reading it needs no lock
        self._lock = threading.Lock()  # guards the counters below
        self._in_flight = 0
        self._max_in_flight = 0
        self._requests = 0
        self._by_status: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()

    @property
    def base_url(self) -> str:
        """The address that OpenAI clients take, with its ``/v1``.

        Raises
        ------
        RuntimeError
            The core is not started.
        """
        return f"http://{LOOPBACK}:{self.port}/v1"

    @property
    def port(self) -> int:
        """The port that it listens on; RuntimeError where the core is not started."""
        if self._server is None:
            raise RuntimeError(f"sandbox core {self.name!r} is not started")
        return int(self._server.server_address[1])

    @property
    def in_flight(self) -> int:
        """Requests that are read and not yet answered."""
        with self._lock:
            return self._in_flight

    @property
    def max_in_flight(self) -> int:
        """The most requests that were in flight at once since the start or `reset_counts`."""
        with self._lock:
            return self._max_in_flight

    @property
    def requests(self) -> int:
        """Completion requests since the start or `reset_counts`."""
        with self._lock:
            return self._requests

    @property
    def stats(self) -> dict[str, Any]:
        """What ``GET /stats`` tells; ``by_status`` counts requests without an answer as ``gone``."""
        with self._lock:
            return {
                "name": self.name,
                "in_flight": self._in_flight,
                "max_in_flight": self._max_in_flight,
                "requests": self._requests,
                "by_status": dict(self._by_status),
                "input_tokens": self._tokens["prompt_tokens"],
                "output_tokens": self._tokens["completion_tokens"],
            }

    def reset_counts(self) -> None:
        """Count from zero again; requests in flight stay counted."""
        with self._lock:
            self._max_in_flight = self._in_flight
            self._requests = 0
            self._by_status.clear()
            self._tokens.clear()

    def fail(self, kind: FaultKind, share: float = 1.0, seed: int = 0) -> None:
        """Have a fault from now on, in the place of an earlier one; see `Fault`."""
        fault, earlier = Fault(kind, share, seed), self._fault
        self._fault = fault
        if earlier is not None:
            earlier.healed.set()

    def heal(self) -> None:
        """End the fault; requests that hang are answered as if it had not been."""
        fault, self._fault = self._fault, None
        if fault is not None:
            fault.healed.set()

    def start(self) -> SandboxCore:
        """Listen; returns itself. RuntimeError where the core is started already."""
        if self._server is not None:
            raise RuntimeError(f"sandbox core {self.name!r} is started already")
        self._stopping.clear()
        self._server = _Server((LOOPBACK, self._port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name=f"sandbox-core-{self.name}",
            daemon=True,
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """End every request without an answer, every connection and every thread; may be repeated."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        self._stopping.set()
        self.heal()
        server.shutdown()
        self._thread.join(JOIN_S)
        server.end_connections()
        server.server_close()

    def __enter__(self) -> SandboxCore:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _enter_request(self) -> None:
        with self._lock:
            self._requests += 1
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)

    def _count_tokens(self, usage: dict[str, int]) -> None:
        with self._lock:
            self._tokens.update(usage)

    def _leave_request(self, status: str) -> None:
        with self._lock:
            self._in_flight -= 1
            self._by_status[status] += 1


class _Server(ThreadingHTTPServer):
    """Knows its connections and their threads, so that they can be ended."""

    request_queue_size = 256  # connections that may wait for accept; the default 5 resets bursts
    daemon_threads = True

    def __init__(self, address: tuple[str, int], core: SandboxCore) -> None:
        self.core = core
        self._lock = threading.Lock()  # guards _connections
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._serve_connection,
            args=(request, client_address),
            name=f"sandbox-core-{self.core.name}-{client_address[1]}",
            daemon=True,
        )
        with self._lock:
            self._connections[thread] = request
        thread.start()

    def _serve_connection(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._connections[threading.current_thread()]

    def end_connections(self) -> None:
        with self._lock:
            connections = list(self._connections.items())
        for _, connection in connections:
            shut(connection)
        for thread, _ in connections:
            thread.join(JOIN_S)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    server: _Server

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True  # the client went away, or the core was stopped

    def finish(self) -> None:
        try:
            super().finish()
        except (ConnectionError, ValueError):  # what was left in the buffer has no reader any more
            self.close_connection = True

    def do_GET(self) -> None:
        core = self.server.core
        if self.path == "/v1/models":
            model = {"id": core.name, "object": "model", "created": 0, "owned_by": "sandbox"}
            self._send_json(200, {"object": "list", "data": [model]})
        elif self.path == "/stats":
            self._send_json(200, core.stats)
        else:
            self._send_json(404, error_body("not_found", f"no such path: {self.path}"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/v1/chat/completions":
            self._send_json(404, error_body("not_found", f"no such path: {self.path}"))
            return
        core = self.server.core
        answer: _Answer | None = None
        core._enter_request()
        try:
            answer = self._answer(body)
        finally:
            # Before the answer leaves: a client that reacts to it at once would else be counted twice.
            core._leave_request("gone" if answer is None else str(answer.status))
        if answer is None:
            self.close_connection = True
            shut(self.connection)
        else:
            self._send(answer)

    def _answer(self, body: bytes) -> _Answer | None:
        """What answers a completion request; None where the connection is to end without an answer."""
        core = self.server.core
        request = _parsed(body)
        if request is None:
            return _json_answer(400, error_body("invalid_request_error", "needs a JSON object with messages"))
        fault = core._fault
        if fault is not None and fault.strikes():
            if fault.kind != "hang":
                return _fault_answer(fault.kind)
            if not self._wait(fault.healed, None):
                return None
        try:
            reply = core.reply(request)
        except LookupError as error:
            return _json_answer(404, error_body("not_found", str(error)))
        latency_s = core.latency_s if reply.latency_s is None else reply.latency_s
        if not self._wait(core._stopping, latency_s * core.time_scale):
            return None
        core._count_tokens(usage(request, reply))
        if request.get("stream"):
            return _stream_answer(completion_chunks(request, reply))
        return _json_answer(200, completion(request, reply))

    def _wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait for `event`, at most `seconds`; False where nobody waits for the answer any more."""
        core = self.server.core
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = PEER_CHECK_S if end is None else min(PEER_CHECK_S, end - time.monotonic())
            if left <= 0 or event.wait(left):
                return not core._stopping.is_set()
            if _is_gone(self.connection):
                return False

    def _send_json(self, status: int, body: dict[str, Any]) -> None:
        self._send(_json_answer(status, body))

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the counters tell what happened, and requests hold texts of users."""


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = "application/json"


def _json_answer(status: int, body: dict[str, Any]) -> _Answer:
    return _Answer(status, json.dumps(body).encode())


def _stream_answer(chunks: Iterator[dict[str, Any]]) -> _Answer:
    """Server-sent events, all at once: recorded answers have no time per token."""
    events = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
    return _Answer(200, "".join(f"data: {event}\n\n" for event in events).encode(), "text/event-stream")


def _fault_answer(kind: FaultKind) -> _Answer | None:
    if kind == "cut":
        return None
    if kind == "malformed":
        return _Answer(200, b'{"choices": [{"mess')
    if kind == "empty":
        return _Answer(200, b"")
    return _json_answer(int(kind), error_body(*STATUS_ERRORS[kind]))


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        request = json.loads(body)
    except ValueError:
        return None
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
        return None
    return request


def _is_gone(connection: socket.socket) -> bool:
    """Whether the client has closed its end; nothing else arrives while it waits for an answer."""
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True
