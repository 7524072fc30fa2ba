"""A sandbox core: an OpenAI-compatible HTTP server on the loopback interface."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eccos_aios.sandbox.answer import Answer, completion_answer, fault_answer, json_answer
from eccos_aios.sandbox.fault import Fault, FaultKind, RetryHeader
from eccos_aios.sandbox.http_connections import shut
from eccos_aios.sandbox.reply import Reply, canned_reply, error_body, last_user_text, usage

LOOPBACK = "127.0.0.1"
PEER_CHECK_S = 0.1  # seconds between looks whether the client of a waiting request is still there
JOIN_S = 5.0  # seconds that `stop` gives each of its threads
TRICKLE_S = 0.2  # seconds from one byte of a trickle to the next
REMEMBERED_TEXTS = 10_000  # texts whose requests are counted each; those of all others count as one
TEXT_LENGTH = 200  # characters that tell a text from another

ReplyFunction = Callable[[dict[str, Any]], Reply]


class SandboxCore:
    """An OpenAI-compatible core on 127.0.0.1 that answers from a function, counts, and fails on demand.

    It serves ``POST /v1/chat/completions`` (text, tool calls, JSON, streams), ``GET /v1/models`` and
    ``GET /stats``. It has no quota: it counts the requests that it gets, for tests to check.

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
        # Guards switching the server on and off, and is held until the earlier connections have ended;
        # no thread that serves one takes it.
        self._switching = threading.Lock()
        self._server: _Server | _Refusing | None = None
        self._fault: Fault | None = None  # replaced as a whole, so reading it needs no lock
        self._lock = threading.Lock()  # guards the counters below
        self._in_flight: set[socket.socket] = set()
        self._max_in_flight = 0
        self._requests = 0
        self._by_status: Counter[str] = Counter()
        self._by_text: Counter[str] = Counter()
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
        """The port that it listens on, or refuses connections on; RuntimeError before the start."""
        if self._server is None:
            raise RuntimeError(f"sandbox core {self.name!r} is not started")
        return self._server.port

    @property
    def in_flight(self) -> int:
        """Number of requests that are read and not yet answered."""
        with self._lock:
            return len(self._in_flight)

    @property
    def max_in_flight(self) -> int:
        """The most requests that were in flight at once since the start or `reset_counts`.

        A request whose client has disconnected by the time another arrives is no longer in flight.
        """
        with self._lock:
            return self._max_in_flight

    @property
    def requests(self) -> int:
        """Completion requests since the start or `reset_counts`."""
        with self._lock:
            return self._requests

    @property
    def requests_by_text(self) -> dict[str, int]:
        """Completion requests since the start or `reset_counts`, by the beginning of what the user said.

        This distinguishes calls whose texts differ, and shows a call that came more than once. Texts
        beyond the first `REMEMBERED_TEXTS` count as the empty one.
        """
        with self._lock:
            return dict(self._by_text)

    @property
    def stats(self) -> dict[str, Any]:
        """The body of ``GET /stats``; ``by_status`` counts requests without an answer as ``gone``."""
        with self._lock:
            return {
                "name": self.name,
                "in_flight": len(self._in_flight),
                "max_in_flight": self._max_in_flight,
                "requests": self._requests,
                "by_status": dict(self._by_status),
                "input_tokens": self._tokens["prompt_tokens"],
                "output_tokens": self._tokens["completion_tokens"],
            }

    def reset_counts(self) -> None:
        """Count from zero again; requests in flight stay counted."""
        with self._lock:
            self._max_in_flight = len(self._in_flight)
            self._requests = 0
            self._by_status.clear()
            self._by_text.clear()
            self._tokens.clear()

    def fail(
        self,
        kind: FaultKind | Sequence[FaultKind],
        share: float = 1.0,
        seed: int = 0,
        *,
        everywhere: bool = False,
        retry_after_s: float | None = None,
        retry_header: RetryHeader = "Retry-After",
    ) -> None:
        """Simulate a fault from now on, instead of an earlier one; parameters and errors as `Fault`."""
        self._have(
            Fault(
                kind,
                share,
                seed,
                everywhere=everywhere,
                retry_after_s=retry_after_s,
                retry_header=retry_header,
            )
        )

    def heal(self) -> None:
        """End the fault; requests that hang are answered as if there had been none."""
        self._have(None)

    def _have(self, fault: Fault | None) -> None:
        earlier, self._fault = self._fault, fault
        if earlier is not None:
            earlier.healed.set()
        with self._switching:
            server = self._server
            refuses = fault is not None and fault.refuses
            if server is not None and refuses != isinstance(server, _Refusing):
                self._server = _Refusing(server.close()) if refuses else _Server(server.close(), self)

    def start(self) -> SandboxCore:
        """Listen; returns itself. RuntimeError if the core is started already."""
        if self._server is not None:
            raise RuntimeError(f"sandbox core {self.name!r} is started already")
        self._server = _Server((LOOPBACK, self._port), self)
        return self

    def stop(self) -> None:
        """End every request without an answer, every connection and every thread; may be repeated."""
        with self._switching:
            server, self._server = self._server, None
            if server is not None:
                server.close()
        self._have(None)

    def __enter__(self) -> SandboxCore:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _enter_request(self, connection: socket.socket, text: str) -> None:
        text = text[:TEXT_LENGTH]
        with self._lock:
            self._requests += 1
            self._by_text[text if text in self._by_text or len(self._by_text) < REMEMBERED_TEXTS else ""] += 1
            self._in_flight.add(connection)
            waiting = sum(not _is_gone(each) for each in self._in_flight)
            self._max_in_flight = max(self._max_in_flight, waiting)

    def _count_tokens(self, usage: dict[str, int]) -> None:
        with self._lock:
            self._tokens.update(usage)

    def _leave_request(self, connection: socket.socket, status: str) -> None:
        with self._lock:
            self._in_flight.discard(connection)
            self._by_status[status] += 1


class _Refusing:
    """Holds an address without listening there: connections are refused, and no other process takes it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(address)
        self.port = int(address[1])

    def close(self) -> tuple[str, int]:
        """Release the address, and return it."""
        self._socket.close()
        return LOOPBACK, self.port


class _Server(ThreadingHTTPServer):
    """Listens from the beginning; knows its connections and their threads, so that they can be ended."""

    request_queue_size = 256  # connections that may wait for accept; the default 5 resets bursts
    daemon_threads = True

    def __init__(self, address: tuple[str, int], core: SandboxCore) -> None:
        self.core = core
        self.ending = threading.Event()
        self._lock = threading.Lock()  # guards _connections
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__(address, _Handler)
        self.port = int(self.server_address[1])
        self._thread = threading.Thread(
            target=self.serve_forever,
            kwargs={"poll_interval": 0.05},
            name=f"sandbox-core-{core.name}",
            daemon=True,
        )
        self._thread.start()

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

    def close(self) -> tuple[str, int]:
        """End every connection and thread, release the address and return it."""
        self.ending.set()
        self.shutdown()
        self._thread.join(JOIN_S)
        with self._lock:
            connections = list(self._connections.items())
        for _, connection in connections:
            shut(connection)
        for thread, _ in connections:
            thread.join(JOIN_S)
        self.server_close()
        return LOOPBACK, self.port


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    server: _Server
    _trickling = False  # whether an answer has begun that is not yet to end

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
            fault = core._fault
            self._end(self._under(fault if fault and fault.everywhere else None, None, self._models))
        elif self.path == "/stats":
            self._end(json_answer(200, core.stats))
        else:
            self._end(json_answer(404, error_body("not_found", f"no such path: {self.path}")))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/v1/chat/completions":
            self._end(json_answer(404, error_body("not_found", f"no such path: {self.path}")))
            return
        core = self.server.core
        request = _parsed(body)
        answer: Answer | None = None
        core._enter_request(self.connection, "" if request is None else last_user_text(request["messages"]))
        try:
            answer = self._completion(request)
        finally:
            # Before the answer leaves: a client that reacts to it at once would else be counted twice.
            core._leave_request(self.connection, "gone" if answer is None else str(answer.status))
        self._end(answer)

    def _models(self) -> Answer:
        model = {"id": self.server.core.name, "object": "model", "created": 0, "owned_by": "sandbox"}
        return json_answer(200, {"object": "list", "data": [model]})

    def _completion(self, request: dict[str, Any] | None) -> Answer | None:
        """The response to a completion request; None if the connection is to end without one."""
        if request is None:
            return json_answer(400, error_body("invalid_request_error", "needs a JSON object with messages"))
        return self._under(self.server.core._fault, request, lambda: self._reply(request))

    def _reply(self, request: dict[str, Any]) -> Answer | None:
        core = self.server.core
        try:
            reply = core.reply(request)
        except LookupError as error:
            return json_answer(404, error_body("not_found", str(error)))
        latency_s = core.latency_s if reply.latency_s is None else reply.latency_s
        if not self._wait(self.server.ending, latency_s * core.time_scale):
            return None
        core._count_tokens(usage(request, reply))
        return completion_answer(request, reply)

    def _under(
        self, fault: Fault | None, request: dict[str, Any] | None, answer: Callable[[], Answer | None]
    ) -> Answer | None:
        """`answer`, or its replacement if a fault strikes."""
        kind = None if fault is None else fault.strikes()
        if fault is None or kind is None:
            return answer()
        if kind == "hang":
            return answer() if self._wait(fault.healed, None) else None
        if kind == "trickle":
            return answer() if self._trickle(fault.healed) else None
        return fault_answer(kind, fault.headers, self.path, request)

    def _wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait for `event`, at most `seconds`; False if the client has hung up."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = PEER_CHECK_S if end is None else min(PEER_CHECK_S, end - time.monotonic())
            if left <= 0 or event.wait(left):
                return not self.server.ending.is_set()
            if _is_gone(self.connection):
                return False

    def _trickle(self, healed: threading.Event) -> bool:
        """Begin an answer and send a blank now and then; False if the client has hung up."""
        self._trickling = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self._chunk(b" ")  # which JSON may begin with
            if self._wait(healed, TRICKLE_S) and healed.is_set():
                return True
            if self.server.ending.is_set() or _is_gone(self.connection):
                return False

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
        self.wfile.flush()

    def _end(self, answer: Answer | None) -> None:
        """Send the answer, or end the connection without one."""
        if answer is None:
            self.close_connection = True
            shut(self.connection)
        elif self._trickling:
            self._trickling = False
            self._chunk(answer.body)
            self._chunk(b"")
        else:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the counters suffice, and requests hold texts of users."""


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
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
