"""A WebSocket application with every feature of RFC 6455 and 7692, and the client that tries each one through a proxy.

`--serve PORT` is the application. `--url` runs the cases against it, wherever it is reached, and prints one line of
JSON, or exits 1 with the name of the case that failed.
"""

import argparse
import asyncio
import hashlib
import json
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Request, Response
from websockets.datastructures import Headers
from websockets.typing import Subprotocol

import local_names

WAIT_S = 60
LARGE_BYTES = 16 * 1024 * 1024
LIMIT_BYTES = LARGE_BYTES + 1024
CLOSE_CODES = [1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]

# ---- the application ----

closed_with: list[list] = []


def refuse(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/refuse":
        return Response(403, "Forbidden", Headers([("Content-Type", "text/plain"), ("Content-Length", "3")]), b"no!")
    if request.headers.get("Upgrade") is None:
        return connection.respond(200, "a WebSocket application\n")
    return None


def add_fields(_connection: ServerConnection, request: Request, response: Response) -> None:
    if request.path == "/fields":
        response.headers["Set-Cookie"] = "seen=1; Path=/"
        response.headers["X-Application"] = "suite"


def choose(_connection: ServerConnection, offered: list[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("v2") if "v2" in offered else None


async def application(connection: ServerConnection) -> None:
    path = connection.request.path
    if path == "/fields":
        await connection.send(json.dumps(sorted([name.lower(), value] for name, value in connection.request.headers.raw_items())))
    elif path == "/first":
        await connection.send("the server speaks first")
    elif path.startswith("/close/"):
        code = int(path.rsplit("/", 1)[1])
        await connection.close(code, f"reason {code}")
    elif path == "/abort":
        await connection.recv()
        connection.transport.abort()
    elif path == "/ping":
        pong = await connection.ping(b"are you there")
        await asyncio.wait_for(pong, WAIT_S)
        await connection.send("pong seen")
    elif path == "/closed":
        await connection.send(json.dumps(closed_with))
    elif path == "/fragments":
        await connection.send(f"part {number} " for number in range(1_000))
    else:
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass
        closed_with.append([connection.close_code, connection.close_reason])
    await connection.wait_closed()


async def serve_application(port: int) -> None:
    options = {"max_size": LIMIT_BYTES, "select_subprotocol": choose, "process_request": refuse, "process_response": add_fields}
    async with serve(application, "127.0.0.1", port, **options) as server:
        print(f"serves on port {port}", flush=True)
        await server.serve_forever()


# ---- the cases ----


class Failure(Exception):
    """What did not work, in words."""


def expect(found, wanted, what: str) -> None:
    if found != wanted:
        raise Failure(f"{what}: {str(found)[:200]!r}, expected {str(wanted)[:200]!r}")


def open_at(url: str, path: str, **options):
    return connect(url.rstrip("/") + path, max_size=LIMIT_BYTES, proxy=None, open_timeout=WAIT_S, close_timeout=WAIT_S, **options)


async def echo(socket, message, what: str) -> None:
    await socket.send(message)
    expect(await asyncio.wait_for(socket.recv(), WAIT_S), message, what)


async def text(url: str) -> None:
    async with open_at(url, "/echo") as socket:
        for message in ["", "one", "zwei · två · 二", "x" * 70_000]:
            await echo(socket, message, "a text")
        await socket.close()
        expect(socket.close_code, 1000, "the close code")


async def binary(url: str) -> None:
    async with open_at(url, "/echo") as socket:
        for message in [b"", bytes(range(256)), b"\x00\xff" * 70_000]:
            await echo(socket, message, "bytes")


async def large(url: str) -> None:
    blob = hashlib.shake_128(b"large").digest(LARGE_BYTES)
    async with open_at(url, "/echo", compression=None) as socket:
        await echo(socket, blob, "16 MB of bytes")
        await echo(socket, blob.hex()[:LARGE_BYTES], "16 MB of text")


async def fragments(url: str) -> None:
    wanted = "".join(f"part {number} " for number in range(1_000))
    async with open_at(url, "/fragments") as socket:
        expect(await socket.recv(), wanted, "a message of a thousand fragments")
    async with open_at(url, "/fragments") as socket:
        pieces = [piece async for piece in socket.recv_streaming()]
        expect(("".join(pieces), len(pieces) >= 1_000), (wanted, True), "the fragments as they came")

    async def parts(socket):
        for number in range(1_000):
            if number % 100 == 0:
                # A control frame between the fragments of a message (RFC 6455 §5.4).
                await socket.ping()
            yield f"part {number} "

    async with open_at(url, "/echo") as socket:
        await socket.send(parts(socket))
        expect(await socket.recv(), wanted, "a message sent in fragments")


async def pings(url: str) -> None:
    async with open_at(url, "/ping") as socket:
        expect(await socket.recv(), "pong seen", "the server's ping")
    async with open_at(url, "/echo") as socket:
        for payload in [b"", b"payload", b"p" * 125]:
            await asyncio.wait_for(await socket.ping(payload), WAIT_S)


async def subprotocol(url: str) -> None:
    async with open_at(url, "/echo", subprotocols=["v1", "v2", "v3"]) as socket:
        expect(socket.subprotocol, "v2", "the server's choice")
    async with open_at(url, "/echo", subprotocols=["other"]) as socket:
        expect(socket.subprotocol, None, "no protocol in common")


async def compression(url: str) -> None:
    async with open_at(url, "/echo", compression="deflate") as socket:
        agreed = socket.response.headers.get("Sec-WebSocket-Extensions", "")
        expect(agreed.split(";")[0], "permessage-deflate", "the extension")
        expect(len(socket.protocol.extensions), 1, "extensions in use")
        await echo(socket, "again and again " * 65_536, "1 MB that compresses well")
    async with open_at(url, "/echo", compression=None) as socket:
        expect(socket.response.headers.get("Sec-WebSocket-Extensions"), None, "no extension")
        await echo(socket, "plain", "a message without it")


async def closed_by_server(url: str) -> None:
    for code in CLOSE_CODES:
        async with open_at(url, f"/close/{code}") as socket:
            await asyncio.wait_for(socket.wait_closed(), WAIT_S)
            expect((socket.close_code, socket.close_reason), (code, f"reason {code}"), "the server's close")


async def closed_by_client(url: str) -> None:
    for code in CLOSE_CODES:
        async with open_at(url, "/echo") as socket:
            await socket.close(code, f"because of {code}")
        await saw(url, [code, f"because of {code}"])


async def saw(url: str, wanted: list) -> None:
    """The server notes an end after the client has seen it."""
    for _ in range(WAIT_S * 10):
        async with open_at(url, "/closed") as socket:
            if wanted in json.loads(await socket.recv()):
                return
        await asyncio.sleep(0.1)
    raise Failure(f"the server never saw {wanted}")


async def aborted(url: str) -> None:
    async with open_at(url, "/abort") as socket:
        await socket.send("go")
        await asyncio.wait_for(socket.wait_closed(), WAIT_S)
        expect(socket.close_code, 1006, "an end without a close frame")
    async with open_at(url, "/echo") as socket:
        await echo(socket, "about to vanish", "a message")
        socket.transport.abort()
    await saw(url, [1006, ""])


async def fields(url: str) -> None:
    given = {"Cookie": "a=1; b=2", "Authorization": "Bearer token", "X-Custom": "kept as it is"}
    async with open_at(url, "/fields", origin="http://somewhere.test", additional_headers=given) as socket:
        found = dict(json.loads(await socket.recv()))
        for name, value in {**given, "Origin": "http://somewhere.test"}.items():
            expect(found.get(name.lower()), value, f"the field {name}")
        expect(socket.response.headers.get("X-Application"), "suite", "a field of the answer")
        expect(socket.response.headers.get("Set-Cookie"), "seen=1; Path=/", "the cookie of the answer")


async def many(url: str) -> None:
    async def one(number: int) -> None:
        async with open_at(url, "/echo") as socket:
            for turn in range(10):
                await echo(socket, f"{number}:{turn}", "one of fifty sockets")

    await asyncio.gather(*(one(number) for number in range(50)))


async def first(url: str) -> None:
    async with open_at(url, "/first") as socket:
        expect(await socket.recv(), "the server speaks first", "the first message")


async def refused(url: str) -> None:
    try:
        async with open_at(url, "/refuse"):
            raise Failure("a refused socket opened")
    except InvalidStatus as refusal:
        expect((refusal.response.status_code, refusal.response.body), (403, b"no!"), "the refusal")


CASES = [
    text, binary, large, fragments, pings, subprotocol, compression, closed_by_server, closed_by_client, aborted,
    fields, many, first, refused,
]  # fmt: skip


async def run_cases(url: str, chosen: str | None) -> int:
    cases = [case for case in CASES if chosen in (None, case.__name__)]
    for case in cases:
        try:
            await asyncio.wait_for(case(url), 4 * WAIT_S)
        except (Failure, OSError, TimeoutError, WebSocketException) as failure:
            raise Failure(f"{case.__name__}: {type(failure).__name__}: {failure}") from failure
    return len(cases)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--serve", type=int, metavar="PORT", help="be the application, on 127.0.0.1")
    what.add_argument("--url", help="run the cases here, e.g. ws://app.apps.localhost:6130/")
    what.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--case", choices=[case.__name__ for case in CASES], help="only this one")
    local_names.add_resolve_option(parser)
    arguments = parser.parse_args()
    local_names.install(arguments.resolve)
    if arguments.list:
        print("\n".join(case.__name__ for case in CASES))
        return 0
    if arguments.serve is not None:
        asyncio.run(serve_application(arguments.serve))
        return 0
    try:
        cases = asyncio.run(run_cases(arguments.url, arguments.case))
    except Failure as failure:
        print(f"websocket_suite: {arguments.url}: {failure}", file=sys.stderr)
        return 1
    print(json.dumps({"ok": True, "cases": cases}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
