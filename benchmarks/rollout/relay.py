"""A TCP relay that makes a host far away: every byte arrives half the round trip later, in each direction.

relay.py LISTEN_ADDRESS LISTEN_PORT ADDRESS PORT ROUND_TRIP_MS

Prints a line when it listens. The handshake of TCP is with the relay, and so costs nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

Timed = tuple[float, bytes]


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, delay: float) -> None:
    """Passes bytes on in their order, each `delay` seconds after it came; many may be under way."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[Timed] = asyncio.Queue()

    async def arrive() -> None:
        data = b"x"
        while data:
            due, data = await under_way.get()
            await asyncio.sleep(due - loop.time())
            target.write(data)
            await target.drain()
        target.write_eof()

    arrival = asyncio.create_task(arrive())
    data = b"x"
    while data:
        try:
            data = await source.read(1 << 16)
        except ConnectionError:
            data = b""
        under_way.put_nowait((loop.time() + delay, data))
    with contextlib.suppress(OSError):
        await arrival


async def serve(listen: tuple[str, int], host: tuple[str, int], delay: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*host)
        await asyncio.gather(carry(reader, there_writer, delay), carry(there_reader, writer, delay))
        for each in (writer, there_writer):
            each.close()

    server = await asyncio.start_server(connected, *listen)
    print("listening", flush=True)  # noqa: T201
    await server.serve_forever()


def main() -> None:
    address, port, to_address, to_port, round_trip_ms = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve((address, int(port)), (to_address, int(to_port)), float(round_trip_ms) / 2000))


if __name__ == "__main__":
    main()
