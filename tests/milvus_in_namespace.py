"""Milvus in a network of its own, since it listens on all addresses: `unshare --net` runs this.

python milvus_in_namespace.py SOCKET FOLDER: brings the loopback up, starts Milvus with its files in FOLDER, and then
passes connections on to it from a listening socket, which was made outside and stays there. It ends when its standard
input does.
"""

import asyncio
import fcntl
import socket
import struct
import sys

from milvus import MilvusServer, MilvusServerConfig

PIECE = 1 << 16
SIOCSIFFLAGS, UP = 0x8914, 0x41


def loopback() -> None:
    """Brings the loopback up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", UP))


async def passed_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Writes what is read, until its end."""
    try:
        while piece := await source.read(PIECE):
            target.write(piece)
            await target.drain()
    except OSError:
        pass
    finally:
        target.close()


async def serve(outside: socket.socket, port: int) -> None:
    """Passes connections on, until the standard input ends."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(passed_on(reader, inner[1]), passed_on(inner[0], writer))

    async with await asyncio.start_server(one, sock=outside):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    loopback()
    server = MilvusServer(MilvusServerConfig(data_dir=sys.argv[2]), wait_for_started=False)
    server.config.set("authorization_enabled", True)
    try:
        server.start()
        server.wait_started()
        print("ready", flush=True)
        asyncio.run(serve(socket.socket(fileno=int(sys.argv[1])), server.listen_port))
    finally:
        server.stop()
