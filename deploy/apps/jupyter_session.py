"""Uses a JupyterLab the way a browser does, and says whether everything worked.

Opens the page with the token, then carries on with the cookies that the page set, as a browser would: loads the
page's main script, starts a kernel, runs code over the kernel's WebSocket and shuts the kernel down. Because the
WebSocket is authorised by cookie, Jupyter compares its `Origin` with the `Host` that arrived; a foreign `Origin` must
be refused, which proves that the comparison took place.

Prints one line of JSON, or exits 1 with the reason. Every wait is bounded by `WAIT_S`.
"""

import argparse
import itertools
import json
import re
import sys
import time
import uuid
from urllib.parse import urlencode, urlsplit

import requests
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

import local_names

WAIT_S = 60
LARGE_OUTPUT_BYTES = 1_000_000
MAX_FRAME_BYTES = 16 * 1024 * 1024
KERNEL_PROTOCOL = "v1.kernel.websocket.jupyter.org"
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"


class Failure(Exception):
    """What did not work, in words."""


class Lab:
    """One JupyterLab behind one public URL, with the cookies that it has set."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.base = self.origin + parts.path.rstrip("/")
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy settings from the environment
        self.session.headers["User-Agent"] = USER_AGENT

    def request(self, method: str, path: str, expected_status: int, **kwargs) -> requests.Response:
        """Sends what a script of the page would send, and checks the status."""
        headers = {"Origin": self.origin, "Referer": f"{self.base}/lab", "Sec-Fetch-Site": "same-origin"}
        headers["X-XSRFToken"] = self.session.cookies.get("_xsrf", "")
        response = self.session.request(method, self.base + path, headers=headers, timeout=WAIT_S, **kwargs)
        if response.status_code != expected_status:
            start = response.text[:300]
            raise Failure(f"{method} {path}: status {response.status_code}, expected {expected_status}: {start}")
        return response

    def open_page(self, token: str) -> None:
        """Loads the page by its link, as a person does, and then the script that it names."""
        headers = {"Accept": "text/html", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
        query = {"token": token} if token else {}
        response = self.session.get(self.base + "/lab", params=query, headers=headers, timeout=WAIT_S)
        if response.status_code != 200 or 'id="jupyter-config-data"' not in response.text:
            raise Failure(f"GET /lab: status {response.status_code}, not JupyterLab's page: {response.text[:300]}")
        script = re.search(r'src="(/[^"]*static/lab/main\.[^"]+)"', response.text)
        if script is None:
            raise Failure("GET /lab: the page names no main script")
        bundle = self.session.get(self.origin + script.group(1), timeout=WAIT_S)
        if bundle.status_code != 200 or "javascript" not in bundle.headers.get("Content-Type", ""):
            raise Failure(f"GET {script.group(1)}: status {bundle.status_code}, {bundle.headers}")

    def open_channels(self, kernel_id: str, session_id: str, origin: str) -> ClientConnection:
        """Opens the kernel's WebSocket with the cookies of the page."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.session.cookies)
        query = urlencode({"session_id": session_id})
        return connect(
            "ws" + self.base.removeprefix("http") + f"/api/kernels/{kernel_id}/channels?{query}",
            origin=origin,
            additional_headers={"Cookie": cookies},
            user_agent_header=USER_AGENT,
            subprotocols=[KERNEL_PROTOCOL],
            max_size=MAX_FRAME_BYTES,
            open_timeout=WAIT_S,
            proxy=None,
        )


def pack(channel: str, header: dict, content: dict) -> bytes:
    """One kernel message as the `v1.kernel.websocket.jupyter.org` protocol frames it: offsets, then the parts."""
    parts = [channel.encode(), *(json.dumps(part).encode() for part in (header, {}, {}, content))]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join(number.to_bytes(8, "little") for number in [len(offsets), *offsets]) + b"".join(parts)


def unpack(frame: bytes) -> tuple[dict, dict, dict]:
    """Header, parent header and content of a framed kernel message."""
    count = int.from_bytes(frame[:8], "little")
    offsets = [int.from_bytes(frame[8 * i : 8 * i + 8], "little") for i in range(1, count + 1)]
    _channel, header, parent, _metadata, content, *_buffers = (frame[a:b] for a, b in itertools.pairwise(offsets))
    return json.loads(header), json.loads(parent), json.loads(content)


def run_code(channels: ClientConnection, session_id: str, code: str) -> str:
    """Runs code and returns what it printed, once the kernel says that it is idle again."""
    request_id = uuid.uuid4().hex
    header = {"msg_id": request_id, "msg_type": "execute_request", "session": session_id}
    header |= {"username": "", "version": "5.4", "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    channels.send(pack("shell", header, {"code": code, "silent": False, "store_history": True, "allow_stdin": False}))
    output = []
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            frame = channels.recv(timeout=max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            start = "".join(output)[:300]
            raise Failure(f"no idle status {WAIT_S} s after {code!r}, output so far: {start!r}") from None
        header, parent, content = unpack(frame)
        if parent.get("msg_id") != request_id:
            continue
        match header["msg_type"]:
            case "stream":
                output.append(content["text"])
            case "error":
                raise Failure(f"the kernel reports {content['ename']}: {content['evalue']}")
            case "status" if content["execution_state"] == "idle":
                return "".join(output)


def use_kernel(lab: Lab, kernel_id: str) -> str:
    """Runs a small and a large computation; returns the small one's answer."""
    session_id = uuid.uuid4().hex
    try:
        lab.open_channels(kernel_id, session_id, origin="http://stranger.example").close()
        raise Failure("a WebSocket with a foreign Origin was accepted")
    except InvalidStatus as refusal:
        if refusal.response.status_code != 403:
            raise Failure(f"foreign Origin: status {refusal.response.status_code}, expected 403") from None

    with lab.open_channels(kernel_id, session_id, origin=lab.origin) as channels:
        if channels.subprotocol != KERNEL_PROTOCOL:
            raise Failure(f"subprotocol {channels.subprotocol!r}, expected {KERNEL_PROTOCOL!r}")
        nonce = uuid.uuid4().hex
        output = run_code(channels, session_id, f"import sys; print(6 * 7, {nonce!r}, file=sys.stdout)")
        if output != f"42 {nonce}\n":
            raise Failure(f"the kernel printed {output[:300]!r}, expected '42 {nonce}'")
        large = run_code(channels, session_id, f"print('0123456789' * {LARGE_OUTPUT_BYTES // 10}, end='')")
        if large != "0123456789" * (LARGE_OUTPUT_BYTES // 10):
            raise Failure(f"{len(large)} bytes of output arrived, expected {LARGE_OUTPUT_BYTES}, or in another order")
    return output.split()[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="public URL, e.g. http://lab.apps.localhost:6130/")
    parser.add_argument("--token", default="", help="JupyterLab's token")
    local_names.add_resolve_option(parser)
    arguments = parser.parse_args()
    local_names.install(arguments.resolve)

    lab = Lab(arguments.url)
    try:
        lab.open_page(arguments.token)
        lab.request("GET", "/api/status", expected_status=200)
        kernel_id = lab.request("POST", "/api/kernels", expected_status=201, json={"name": "python3"}).json()["id"]
        output = use_kernel(lab, kernel_id)
        lab.request("DELETE", f"/api/kernels/{kernel_id}", expected_status=204)
    except (Failure, OSError, requests.RequestException, WebSocketException) as failure:
        print(f"jupyter_session: {arguments.url}: {type(failure).__name__}: {failure}", file=sys.stderr)
        return 1
    result = {"ok": True, "kernel": kernel_id, "output": output, "large_output_bytes": LARGE_OUTPUT_BYTES}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
