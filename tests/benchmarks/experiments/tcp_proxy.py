"""TcpProxy: one address in front of a server that may change, be late or fall silent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

CHUNK_BYTES = 1 << 16
HOST = "127.0.0.1"
STARTS_S = 10.0


class TcpProxy:
    """Forwards connections to a port of this machine, on a thread of its own until `close`.

    Parameters
    ----------
    port : int
        Where new connections go.

    Attributes
    ----------
    port : int
        The proxy's own.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._connections: set[asyncio.Task[None]] = set()  # used by the proxy's thread alone
        self._flows = asyncio.Event()  # likewise; of the connections made since the last `freeze`
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(STARTS_S)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def move_to(self, port: int, *, disconnect: bool = True) -> None:
        """Send new connections to another port, and close those that there are, or leave them."""
        self._target = port
        if disconnect:
            self._do(self._disconnect)

    def freeze(self) -> None:
        """Forward nothing more over the connections that there are, and leave them open."""
        self._do(self._freeze)

    def close(self) -> None:
        """End all connections and the thread."""
        self._do(self._server.close)
        self._do(self._disconnect)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, action: Callable[[], object]) -> None:
        """Run it in the proxy's thread, and what it has woken there."""

        async def act() -> None:
            action()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(STARTS_S)

    async def _listen(self) -> asyncio.Server:
        self._freeze()
        return await asyncio.start_server(self._serve, HOST, 0)

    def _freeze(self) -> None:
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    def _disconnect(self) -> None:
        for task in self._connections:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        with suppress(OSError, asyncio.CancelledError):
            server_reader, server_writer = await asyncio.open_connection(HOST, self._target)
            writers.append(server_writer)
            flows = self._flows
            await asyncio.gather(_copy(reader, server_writer, flows), _copy(server_reader, writer, flows))
        self._connections.discard(task)
        for each in writers:
            each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    while content := await reader.read(CHUNK_BYTES):
        await flows.wait()
        writer.write(content)
        await writer.drain()
    await flows.wait()
    writer.write_eof()
