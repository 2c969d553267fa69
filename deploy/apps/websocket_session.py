"""Exchanges numbered messages with a WebSocket echo endpoint and checks that every one returns, in order.

Text and binary messages alternate and grow from a few bytes to 64 KiB; up to `WINDOW` are under way at a time, so that
frames queue in both directions. Prints one line of JSON, or exits 1 with the reason.
"""

import argparse
import json
import sys
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

import local_names

WAIT_S = 60
WINDOW = 16
LARGEST_BYTES = 64 * 1024


class Failure(Exception):
    """What did not work, in words."""


def message(number: int) -> str | bytes:
    """The message with this number: text when even, binary when odd, of a size that depends on the number."""
    text = f"{number}:".ljust(16 << (number % 13), "·x"[number % 2])[: LARGEST_BYTES // 2]
    return text.encode() if number % 2 else text


def exchange(url: str, messages: int) -> int:
    """Sends and receives; returns the number of bytes that came back."""
    parts = urlsplit(url)
    origin = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"
    received_bytes = 0
    with connect(url, origin=origin, open_timeout=WAIT_S, close_timeout=WAIT_S, proxy=None) as connection:
        for number in range(messages + WINDOW):
            if number < messages:
                connection.send(message(number))
            oldest = number - WINDOW
            if 0 <= oldest < messages:
                answer = connection.recv(timeout=WAIT_S)
                if answer != message(oldest):
                    raise Failure(f"message {oldest} came back as {answer[:40]!r}, {len(answer)} long")
                received_bytes += len(answer if isinstance(answer, bytes) else answer.encode())
    if connection.close_code != 1000:
        raise Failure(f"the connection closed with code {connection.close_code}, expected 1000")
    return received_bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="echo endpoint, e.g. ws://demo.apps.localhost:6130/ws")
    parser.add_argument("--messages", type=int, default=100)
    local_names.add_resolve_option(parser)
    arguments = parser.parse_args()
    local_names.install(arguments.resolve)
    try:
        received_bytes = exchange(arguments.url, arguments.messages)
    except (Failure, OSError, WebSocketException) as failure:
        print(f"websocket_session: {arguments.url}: {type(failure).__name__}: {failure}", file=sys.stderr)
        return 1
    print(json.dumps({"ok": True, "messages": arguments.messages, "bytes": received_bytes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
