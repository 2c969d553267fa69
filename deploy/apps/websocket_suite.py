"""A WebSocket application with every feature of RFC 6455 and 7692, and the client that tries each one through a proxy.

`--serve PORT` is the application. `--url` runs the cases against it, wherever it is reached, and prints one line of
JSON, or exits 1 with the name of the case that failed.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import uuid
from collections.abc import AsyncIterator

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

import local_names

WAIT_S = 60
LARGE_BYTES = 16 * 1024 * 1024
LIMIT_BYTES = LARGE_BYTES + 1024
FRAGMENTS = [f"part {number} " for number in range(1_000)]
PING_PAYLOADS = [b"", b"payload", b"p" * 125]
SOCKETS = 50
CLOSE_CODES = [1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]

# ---- the application ----

# By the mark behind `?` in the path, which every socket of the cases chooses anew.
closed_with: dict[str, list] = {}


def answer_request(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/refuse":
        return Response(403, "Forbidden", Headers([("Content-Type", "text/plain"), ("Content-Length", "3")]), b"no!")
    if request.headers.get("Upgrade") is None:
        return connection.respond(200, "a WebSocket application\n")
    if request.path == "/uncompressed":
        connection.protocol.available_extensions = None
    return None


def add_fields(_connection: ServerConnection, request: Request, response: Response) -> None:
    if request.path == "/fields":
        response.headers["Set-Cookie"] = "seen=1; Path=/"
        response.headers["X-Application"] = "suite"


def choose(_connection: ServerConnection, offered: list[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("v2") if "v2" in offered else None


async def application(connection: ServerConnection) -> None:
    path, _, mark = connection.request.path.partition("?")
    if path == "/fields":
        fields = [[name.lower(), value] for name, value in connection.request.headers.raw_items()]
        await connection.send(json.dumps(fields))
    elif path == "/close":
        await connection.close(None)
    elif path.startswith("/close/"):
        code = int(path.rsplit("/", 1)[1])
        await connection.close(code, f"reason {code}")
    elif path == "/abort":
        await connection.recv()
        connection.transport.abort()
    elif path == "/ping":
        for payload in PING_PAYLOADS:
            await asyncio.wait_for(await connection.ping(payload), WAIT_S)
        await connection.send("pongs seen")
    elif path == "/closed":
        await connection.send(json.dumps(closed_with.get(mark)))
    elif path == "/fragments":
        await connection.send(fragments_and_pings(connection))
    else:
        if path == "/first":
            await connection.send("the server speaks first")
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass
        closed_with[mark] = [connection.close_code, connection.close_reason]
    await connection.wait_closed()


async def fragments_and_pings(connection) -> AsyncIterator[str]:
    """A message in fragments; pings between them are answered before it goes on (RFC 6455 section 5.4)."""
    for number, fragment in enumerate(FRAGMENTS):
        if number % 100 == 50:
            await asyncio.wait_for(await connection.ping(f"at {number}"), WAIT_S)
        yield fragment


async def serve_application(port: int) -> None:
    options = {
        "max_size": LIMIT_BYTES,
        "select_subprotocol": choose,
        "process_request": answer_request,
        "process_response": add_fields,
    }
    async with serve(application, "127.0.0.1", port, **options) as server:
        print(f"serves on port {port}", flush=True)
        await server.serve_forever()


# ---- the cases ----


class Failure(Exception):
    """What did not work, in words."""


def expect(found, wanted, what: str) -> None:
    if found != wanted:
        raise Failure(f"{what}: {shown(found)}, expected {shown(wanted)}")


def shown(value) -> str:
    """A value in few characters: of a long message its length and checksum."""
    if isinstance(value, str | bytes) and len(value) > 200:
        checksum = hashlib.sha256(value if isinstance(value, bytes) else value.encode()).hexdigest()
        return f"{type(value).__name__} of length {len(value)}, SHA-256 {checksum[:16]}"
    return repr(value)[:200]


def open_at(url: str, path: str, **options):
    limits = {"max_size": LIMIT_BYTES, "open_timeout": WAIT_S, "close_timeout": WAIT_S}
    return connect(url.rstrip("/") + path, proxy=None, **limits, **options)


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
    wanted = "".join(FRAGMENTS)
    async with open_at(url, "/fragments") as socket:
        expect(await socket.recv(), wanted, "a message of a thousand fragments")
    async with open_at(url, "/fragments") as socket:
        pieces = [piece async for piece in socket.recv_streaming()]
        expect(("".join(pieces), len(pieces) >= len(FRAGMENTS)), (wanted, True), "the fragments as they came")
    async with open_at(url, "/echo") as socket:
        await socket.send(fragments_and_pings(socket))
        expect(await socket.recv(), wanted, "a message sent in fragments")


async def pings(url: str) -> None:
    async with open_at(url, "/ping") as socket:
        expect(await socket.recv(), "pongs seen", "the server's pings")
    async with open_at(url, "/echo") as socket:
        for payload in PING_PAYLOADS:
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
    for path, offer in [("/echo", None), ("/uncompressed", "deflate")]:
        async with open_at(url, path, compression=offer) as socket:
            expect(socket.response.headers.get("Sec-WebSocket-Extensions"), None, f"no extension, offered {offer}")
            await echo(socket, "plain", "a message without it")


async def closed_by_server(url: str) -> None:
    for code in CLOSE_CODES:
        async with open_at(url, f"/close/{code}") as socket:
            await asyncio.wait_for(socket.wait_closed(), WAIT_S)
            expect((socket.close_code, socket.close_reason), (code, f"reason {code}"), "the server's close")
    async with open_at(url, "/close") as socket:
        await asyncio.wait_for(socket.wait_closed(), WAIT_S)
        expect((socket.close_code, socket.close_reason), (1005, ""), "the server's close without a code")


async def closed_by_client(url: str) -> None:
    for code in CLOSE_CODES:
        mark = uuid.uuid4().hex
        async with open_at(url, f"/echo?{mark}") as socket:
            await socket.close(code, f"because of {code}")
        await saw(url, mark, [code, f"because of {code}"])
    mark = uuid.uuid4().hex
    async with open_at(url, f"/echo?{mark}") as socket:
        await socket.close(None)
    await saw(url, mark, [1005, ""])


async def saw(url: str, mark: str, wanted: list) -> None:
    """The server notes an end after the client has seen it."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    noted = None
    while noted is None and asyncio.get_running_loop().time() < deadline:
        async with open_at(url, f"/closed?{mark}") as socket:
            noted = json.loads(await socket.recv())
        await asyncio.sleep(0.05 if noted is None else 0)
    expect(noted, wanted, "the end that the server saw")


async def aborted(url: str) -> None:
    async with open_at(url, "/abort") as socket:
        await socket.send("go")
        await asyncio.wait_for(socket.wait_closed(), WAIT_S)
        expect(socket.close_code, 1006, "an end without a close frame")
    mark = uuid.uuid4().hex
    async with open_at(url, f"/echo?{mark}") as socket:
        await echo(socket, "about to vanish", "a message")
        socket.transport.abort()
    await saw(url, mark, [1006, ""])


async def fields(url: str) -> None:
    given = {"Cookie": "a=1; b=2", "Authorization": "Bearer token", "X-Custom": "kept as it is"}
    async with open_at(url, "/fields", origin="http://somewhere.test", additional_headers=given) as socket:
        found = json.loads(await socket.recv())
        for name, value in {**given, "Origin": "http://somewhere.test"}.items():
            expect([seen for key, seen in found if key == name.lower()], [value], f"the field {name}")
        answer = socket.response.headers
        expect(answer.get_all("X-Application"), ["suite"], "a field of the answer")
        expect(answer.get_all("Set-Cookie"), ["seen=1; Path=/"], "the cookie of the answer")


async def many(url: str) -> None:
    all_open = asyncio.Barrier(SOCKETS)

    async def one(number: int) -> None:
        async with open_at(url, "/echo") as socket:
            await asyncio.wait_for(all_open.wait(), WAIT_S)
            for turn in range(10):
                await echo(socket, f"{number}:{turn}", "one of fifty sockets")

    await asyncio.gather(*(one(number) for number in range(SOCKETS)))


async def first(url: str) -> None:
    async with open_at(url, "/first") as socket:
        await socket.send("right behind the handshake")
        expect(await socket.recv(), "the server speaks first", "the server's first message")
        expect(await socket.recv(), "right behind the handshake", "the client's first message")


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
        except Exception as failure:  # of any kind: leaving a lost socket raises what the library documents nowhere
            reason = f"{case.__name__}: {type(failure).__name__}: {failure}"
            if failure.__context__ is not None:
                reason += f" (after {failure.__context__!r})"
            raise Failure(reason) from failure
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
