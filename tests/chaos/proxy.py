"""A TCP proxy that a network could be: slow, cut at a bad moment, silent. One thread serves any number of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(eq=False)
class Cut:
    """The next connection that sends `needle` is cut: one only, of all proxies that were given it."""

    needle: bytes
    deliver: bool  # True: the request arrives and its reply is lost; False: it never arrives
    hit: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Connection:
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    recent: bytes = b""  # the end of what was sent, for a needle that comes in two parts
    doomed: bool = False  # cut as soon as the reply comes
    dead: bool = False  # open, and nothing passes ever again

    def reset(self) -> None:
        """Ends it with RST, as a machine that forgot about it does."""
        for writer in self.writers:
            with contextlib.suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


class Proxy:
    """Listens on a port of its own and forwards to one address; every method may be called from any thread."""

    def __init__(self, host: str, port: int, seed: int = 0) -> None:
        self._target = (host, port)
        self._random = random.Random(seed)
        self._cuts: list[Cut] = []
        self._connections: set[_Connection] = set()
        self._delay = (0.0, 0.0)
        self._passing: asyncio.Event
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="chaos-proxy", daemon=True)
        self._ready = threading.Event()
        self.port = 0
        self._thread.start()
        self._ready.wait(5)

    # --- faults -------------------------------------------------------------------------------------------------------

    def cut(self, cut: Cut) -> None:
        """Cuts the next connection that sends something with its needle in it, before or after that has arrived."""
        self._call(lambda: self._cuts.append(cut))

    def cut_all(self) -> None:
        """Resets every connection there is."""
        self._call(lambda: [connection.reset() for connection in list(self._connections)])

    def delay(self, least: float, most: float) -> None:
        """Every piece of data takes so long (seconds) from now on."""
        self._call(lambda: setattr(self, "_delay", (least, most)))

    def half_open(self) -> None:
        """The connections of this moment stay open and are dead; new ones work."""
        self._call(lambda: [setattr(connection, "dead", True) for connection in self._connections])

    @contextlib.contextmanager
    def blackhole(self) -> Iterator[None]:
        """Nothing passes; afterwards everything does, late, as TCP would have it."""
        self._call(lambda: self._passing.clear())
        try:
            yield
        finally:
            self._call(lambda: self._passing.set())

    def close(self) -> None:
        """Ends it."""
        self.cut_all()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _call(self, action: Callable[[], object]) -> None:
        """Runs it on the loop's thread, and returns when that is done."""
        done = threading.Event()

        def run() -> None:
            try:
                action()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(5)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._passing = asyncio.Event()
        self._passing.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=256))
        self.port = int(server.sockets[0].getsockname()[1])
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        try:
            server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            to_client.transport.abort()
            return
        for writer in (to_client, to_server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection((to_client, to_server))
        self._connections.add(connection)
        try:
            done, pending = await asyncio.wait(
                [
                    asyncio.create_task(self._up(connection, client, to_server)),
                    asyncio.create_task(self._down(connection, server, to_client)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in (*done, *pending):
                task.cancel()
        except asyncio.CancelledError:
            return  # the proxy ends
        finally:
            self._connections.discard(connection)
            connection.reset()

    async def _up(self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if connection.dead:
                    continue
                await self._pass()
                cut = self._cut_for(connection, data)
                if cut is not None and not cut.deliver:
                    return
                connection.doomed = connection.doomed or cut is not None
                writer.write(data)
                await writer.drain()

    async def _down(self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if connection.dead:
                    continue
                if connection.doomed:
                    return
                await self._pass()
                writer.write(data)
                await writer.drain()

    async def _pass(self) -> None:
        await self._passing.wait()
        if self._delay[1]:
            await asyncio.sleep(self._random.uniform(*self._delay))

    def _cut_for(self, connection: _Connection, data: bytes) -> Cut | None:
        text = connection.recent + data
        connection.recent = text[-64:]
        self._cuts = [cut for cut in self._cuts if not cut.hit.is_set()]
        for cut in self._cuts:
            if cut.needle in text:
                cut.hit.set()
                return cut
        return None
