"""A tab of headless Chromium, driven by the Chrome DevTools protocol: what the drivers with a browser share.

Every wait is bounded by `WAIT_S`.
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

import local_names

WAIT_S = 60
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
CHROMIUM_FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync --no-proxy-server
    --remote-debugging-port=0 --window-size=1280,800""".split()


class Failure(Exception):
    """What did not work, in words."""


class Page:
    """One browser tab, driven by the Chrome DevTools protocol."""

    def __init__(self, connection):
        self.connection = connection
        self.last_id = 0

    def call(self, method: str, **params) -> dict:
        """Sends one command and returns its result; events that arrive in between are dropped."""
        self.last_id += 1
        self.connection.send(json.dumps({"id": self.last_id, "method": method, "params": params}))
        deadline = time.monotonic() + WAIT_S
        while True:
            answer = json.loads(self.connection.recv(timeout=max(0.0, deadline - time.monotonic())))
            if answer.get("id") == self.last_id:
                if "error" in answer:
                    raise Failure(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def evaluate(self, expression: str):
        """The value of a JavaScript expression, or of the promise that it returns."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise Failure(f"{expression.strip()}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_until(self, expression: str, what: str) -> None:
        """Waits until an expression is true."""
        deadline = time.monotonic() + WAIT_S
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                text = self.evaluate("document.body?.innerText.slice(0, 500)")
                raise Failure(f"{what}: not within {WAIT_S} s; the page shows {text!r}")
            time.sleep(0.1)

    def open(self, url: str) -> None:
        """Goes to a URL, as the tab that has the focus: commands of JupyterLab act on that."""
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        opened = self.call("Page.navigate", url=url)
        if "errorText" in opened:
            raise Failure(f"{url}: {opened['errorText']}")

    def picture(self) -> bytes:
        """What the tab shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def browser_page(chromium: str, resolve: list) -> Iterator[Page]:
    """A tab of a browser of its own; `resolve` has triples of host, port and address."""
    with tempfile.TemporaryDirectory(prefix="appproxy-chromium-", ignore_cleanup_errors=True) as folder:
        rules = ",".join(f"MAP {host}:{port} {address}:{port}" for host, port, address in resolve)
        command = [chromium, *CHROMIUM_FLAGS, f"--user-data-dir={folder}", f"--host-resolver-rules={rules}"]
        environment = {**os.environ, "HOME": folder}
        with open(f"{folder}/log", "wb") as log:
            browser = subprocess.Popen(
                [*command, "about:blank"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # one process group, so that its helpers can be ended with it
            )
        try:
            tab_url = devtools_url(browser, pathlib.Path(folder))
            with connect(tab_url, max_size=MAX_MESSAGE_BYTES, open_timeout=WAIT_S, proxy=None) as connection:
                yield Page(connection)
        finally:
            end(browser)


def devtools_url(browser: subprocess.Popen, profile: pathlib.Path) -> str:
    """Waits for the browser's debugging port and returns the WebSocket URL of its tab."""
    port_file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and browser.poll() is None:
        if port_file.exists() and (lines := port_file.read_text().split()):
            tabs = requests.get(f"http://127.0.0.1:{lines[0]}/json/list", timeout=WAIT_S, proxies={"http": ""}).json()
            if pages := [tab for tab in tabs if tab["type"] == "page"]:
                return pages[0]["webSocketDebuggerUrl"]
        time.sleep(0.1)
    raise Failure(f"chromium opened no debugging port; exit code {browser.poll()}")


def end(browser: subprocess.Popen) -> None:
    """Ends the browser and every helper process that it started."""
    browser.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        browser.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(browser.pid, signal.SIGKILL)
    browser.wait()


def picture_of_jupyter(program: str, doc: str, output: str, take: Callable[[argparse.Namespace], bytes]) -> int:
    """The command line of a driver that shows `output` in JupyterLab and takes a picture of it."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--url", required=True, help="public URL, e.g. http://lab.apps.localhost:6130/")
    parser.add_argument("--token", required=True, help="JupyterLab's token")
    parser.add_argument("--out", required=True, help="the PNG to write")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    local_names.add_resolve_option(parser)
    arguments = parser.parse_args()
    local_names.install(arguments.resolve)
    try:
        picture = take(arguments)
    except (Failure, OSError, requests.RequestException, WebSocketException) as failure:
        print(f"{program}: {arguments.url}: {type(failure).__name__}: {failure}", file=sys.stderr)
        return 1
    pathlib.Path(arguments.out).write_bytes(picture)
    print(json.dumps({"ok": True, "output": output, "picture": arguments.out, "bytes": len(picture)}))
    return 0
