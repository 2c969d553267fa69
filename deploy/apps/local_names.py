"""Name resolution for the drivers: what browsers do with `localhost`, and overrides.

`*.localhost` is loopback (RFC 6761 section 6.3), but the C library asks DNS for it. Browsers and curl answer it
themselves, and so must the drivers.
"""

import argparse
import socket

_real_getaddrinfo = socket.getaddrinfo


def add_resolve_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--resolve HOST:PORT:ADDRESS`, which may be repeated, with curl's meaning."""
    parser.add_argument(
        "--resolve",
        action="append",
        default=[],
        type=_parse_override,
        metavar="HOST:PORT:ADDRESS",
        help="connect to ADDRESS for HOST:PORT; may be repeated",
    )


def install(overrides: list[tuple[str, int, str]]) -> None:
    """Makes this process resolve `*.localhost` to 127.0.0.1, and every override to its address."""
    addresses = {(host, port): address for host, port, address in overrides}

    def getaddrinfo(host, port, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str):
            name = name.rstrip(".").lower()
            is_local = name == "localhost" or name.endswith(".localhost")
            host = addresses.get((name, int(port or 0)), "127.0.0.1" if is_local else host)
        return _real_getaddrinfo(host, port, *args, **kwargs)

    socket.getaddrinfo = getaddrinfo


def _parse_override(text: str) -> tuple[str, int, str]:
    host, separator, rest = text.partition(":")
    port, second_separator, address = rest.partition(":")
    if not (host and separator and second_separator and port.isdigit() and address):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT:ADDRESS")
    return host.lower(), int(port), address.strip("[]")
