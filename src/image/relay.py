"""The only way out of a build's steps: HTTP's proxy on their loopback, which passes on to the server's egress proxy.

It ends with its standard input: the server holds the other end, and so no build leaves one behind."""

import asyncio
import sys
from urllib.parse import urlsplit

SOCKET, PORT = "/way/s", 3128
HEAD_BYTES = 64 * 1024


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def head(reader):
    return await reader.readuntil(b"\r\n\r\n")


async def forwarded(request, outer):
    """A request for plain HTTP: the server's proxy knows CONNECT alone. One request a connection."""
    lines = request[:-4].split(b"\r\n")
    method, target, version = lines[0].split(b" ")
    url = urlsplit(target.decode("ascii"))
    if url.scheme != "http" or not url.hostname:
        raise ValueError("only http is forwarded")
    name = "[%s]" % url.hostname if ":" in url.hostname else url.hostname
    authority = "%s:%d" % (name, url.port or 80)
    outer.write(("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (authority, authority)).encode("ascii"))
    path = (url.path or "/") + ("?" + url.query if url.query else "")
    hop = (b"connection:", b"proxy-connection:", b"proxy-authorization:", b"keep-alive:")
    kept = [line for line in lines[1:] if not line.lower().startswith(hop)]
    first = b" ".join((method, path.encode("ascii"), version))
    return b"\r\n".join([first, *kept, b"Connection: close", b"", b""])


async def serve(reader, writer):
    outer = None
    try:
        request = await head(reader)
        inner, outer = await asyncio.open_unix_connection(SOCKET, limit=HEAD_BYTES)
        if request.startswith(b"CONNECT "):
            outer.write(request)
        else:
            rest = await forwarded(request, outer)
            answer = await head(inner)
            if answer.split(b" ", 2)[1] != b"200":
                # Refused: what the proxy says of it is the answer.
                writer.write(answer)
                await copy(inner, writer)
                return
            outer.write(rest)
        await asyncio.gather(copy(reader, outer), copy(inner, writer))
    except (OSError, ValueError, IndexError, UnicodeError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        for one in (writer, outer):
            if one is not None:
                one.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", PORT, limit=HEAD_BYTES)
    print("ready", flush=True)
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


asyncio.run(main())
