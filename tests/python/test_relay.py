"""The relay, in the supervisor's process as in a replica."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from contextlib import asynccontextmanager

from gateway import PROJECTS, Replica


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def relayed(folder, *connects):
    """A supervisor that relays one port for each of `connects`; its ports."""
    ports = [free_port() for _ in connects]
    relay = [
        {"address": "127.0.0.1", "port": port, "socket": "out.sock", "connect": connect}
        for port, connect in zip(ports, connects)
    ]
    replica = Replica(folder, {"agent": f"{PROJECTS}/graphs.py:memory"}, relay=relay, supervised=True)
    begun = time.monotonic()
    await replica.launch()
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", ports[-1])
                writer.close()
                break
            except OSError:
                assert time.monotonic() - begun < 10, replica.text()
                await asyncio.sleep(0.01)
        yield ports
    finally:
        replica.process.kill()
        await replica.process.wait()


async def upper(reader, writer):
    """Answers only once the other side has ended its direction."""
    data = await reader.read()
    writer.write(data.upper())
    await writer.drain()
    writer.close()


async def test_bytes_both_ways_with_half_close(folder):
    async with relayed(folder, None) as (port,):
        server = await asyncio.start_unix_server(upper, folder / "s" / "out.sock")
        payload = os.urandom(1 << 20).hex().encode() * 4

        async def talk():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(payload)
            writer.write_eof()
            assert await reader.read() == payload.upper()
            writer.close()

        await asyncio.gather(*(talk() for _ in range(8)))
        server.close()


async def proxy(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    if head != b"CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n":
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\nnot for the client")
        writer.close()
        return
    writer.write(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nfirst words ")
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def test_connect_is_spoken_to_the_proxy_and_its_refusal_closes(folder):
    async with relayed(folder, "good.example:443", "bad.example:443") as (good, bad):
        server = await asyncio.start_unix_server(proxy, folder / "s" / "out.sock")
        reader, writer = await asyncio.open_connection("127.0.0.1", good)
        writer.write(b"hello")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"first words hello"
        reader, writer = await asyncio.open_connection("127.0.0.1", bad)
        writer.write(b"hello")
        try:
            assert await asyncio.wait_for(reader.read(), 5) == b""
        except ConnectionResetError:
            pass
        server.close()


async def test_a_socket_that_is_not_there_yet_is_tried_again(folder):
    async with relayed(folder, None) as (port,):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"early")
        writer.write_eof()
        await asyncio.sleep(0.5)
        server = await asyncio.start_unix_server(upper, folder / "s" / "out.sock")
        assert await asyncio.wait_for(reader.read(), 5) == b"EARLY"
        server.close()


async def test_a_socket_that_never_comes_closes_the_connection(folder):
    async with relayed(folder, None) as (port,):
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        begun = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 8) == b""
        assert 4 < time.monotonic() - begun < 7


async def test_no_file_left_ends_neither_the_supervisor_nor_later_connections(folder):
    """Twice as many connections as there are files: those that find none wait, and are served in the end."""
    async with relayed(folder, None) as (port,):
        server = await asyncio.start_unix_server(upper, folder / "s" / "out.sock")
        process = next(int(entry) for entry in os.listdir("/proc") if entry.isdigit() and is_supervisor(entry, folder))
        resource.prlimit(process, resource.RLIMIT_NOFILE, (60, 60))

        async def talk(number):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await together.wait()
            writer.write(b"word %d" % number)
            writer.write_eof()
            assert await reader.read() == b"WORD %d" % number
            writer.close()

        together = asyncio.Event()
        talks = [asyncio.create_task(talk(number)) for number in range(60)]
        deadline = time.monotonic() + 10
        while len(os.listdir(f"/proc/{process}/fd")) < 59:
            assert time.monotonic() < deadline, "the limit is never met"
            await asyncio.sleep(0.02)
        together.set()
        await asyncio.wait_for(asyncio.gather(*talks), 20)
        await talk(100)
        server.close()


def is_supervisor(process, folder):
    try:
        with open(f"/proc/{process}/cmdline") as command, open(f"/proc/{process}/environ") as environ:
            return "supervisor.py" in command.read() and f"RAPIDCLAW_RUN={folder}\0" in environ.read()
    except OSError:
        return False
