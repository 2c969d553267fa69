"""Runs a notebook in JupyterLab with a real browser and takes a picture of it.

Stores a notebook with one code cell through the contents API, opens it in headless Chromium, runs all cells through
the page (so the browser's own WebSocket carries the code and its output), waits for the output to be shown and writes
a PNG. JupyterLab must run with `--LabApp.expose_app_in_browser=True`. Chromium is driven by the Chrome DevTools
protocol. Prints one line of JSON, or exits 1 with the reason. Every wait is bounded by `WAIT_S`.
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
import uuid

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

import local_names

WAIT_S = 60
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
CHROMIUM_FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync --no-proxy-server
    --remote-debugging-port=0 --window-size=1280,800""".split()

CODE = """\
from math import comb

for row in range(8):
    print(" ".join(str(comb(row, k)) for k in range(row + 1)).center(40))
print("through the App Proxy:", 6 * 7)"""
EXPECTED_OUTPUT = "through the App Proxy: 42"

NOTEBOOK_IS_SHOWN = """
    (() => {
        const panel = window.jupyterapp?.shell.currentWidget;
        const status = panel?.sessionContext?.session?.kernel?.status;
        return status === 'idle' && panel.node.querySelector('.jp-CodeCell') !== null;
    })()"""
OUTPUT_IS_SHOWN = f"""
    [...document.querySelectorAll('.jp-OutputArea-output')]
        .some(node => node.textContent.includes({EXPECTED_OUTPUT!r}))"""


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


def store_notebook(base: str, token: str, name: str) -> None:
    """Writes the notebook, and the setting that keeps JupyterLab from asking about news."""
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cell = {"cell_type": "code", "id": "cell", "source": CODE, "metadata": {}, "outputs": [], "execution_count": None}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernelspec}, "cells": [cell]}
    put(base, token, f"/api/contents/{name}", {"type": "notebook", "format": "json", "content": notebook})
    no_news = json.dumps({"fetchNews": "false", "checkForUpdates": False})
    put(base, token, "/lab/api/settings/@jupyterlab/apputils-extension:notification", {"raw": no_news})


def put(base: str, token: str, path: str, body: dict) -> None:
    session = requests.Session()
    session.trust_env = False  # no proxy settings from the environment
    response = session.put(base + path, json=body, headers={"Authorization": f"token {token}"}, timeout=WAIT_S)
    if not response.ok:
        raise Failure(f"PUT {path}: status {response.status_code}: {response.text[:300]}")


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


def run_in_browser(page: Page, url: str) -> bytes:
    """Opens the notebook, runs it and returns the picture."""
    # The notebook's commands act on the widget that has the focus, and a headless tab has none unless told.
    page.call("Emulation.setFocusEmulationEnabled", enabled=True)
    opened = page.call("Page.navigate", url=url)
    if "errorText" in opened:
        raise Failure(f"{url}: {opened['errorText']}")
    page.wait_until(NOTEBOOK_IS_SHOWN, "the notebook is shown and its kernel idle")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")
    page.wait_until(OUTPUT_IS_SHOWN, f"the output {EXPECTED_OUTPUT!r} is shown")
    return base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"])


def take_picture(arguments: argparse.Namespace) -> bytes:
    base = arguments.url.rstrip("/")
    name = f"demo-{uuid.uuid4().hex[:8]}.ipynb"
    store_notebook(base, arguments.token, name)
    with tempfile.TemporaryDirectory(prefix="appproxy-chromium-", ignore_cleanup_errors=True) as folder:
        rules = ",".join(f"MAP {host}:{port} {address}:{port}" for host, port, address in arguments.resolve)
        command = [arguments.chromium, *CHROMIUM_FLAGS, f"--user-data-dir={folder}", f"--host-resolver-rules={rules}"]
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
                # `reset` opens an empty workspace, whatever earlier visits left open.
                return run_in_browser(Page(connection), f"{base}/lab/tree/{name}?token={arguments.token}&reset")
        finally:
            end(browser)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="public URL, e.g. http://lab.apps.localhost:6130/")
    parser.add_argument("--token", required=True, help="JupyterLab's token")
    parser.add_argument("--out", required=True, help="the PNG to write")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    local_names.add_resolve_option(parser)
    arguments = parser.parse_args()
    local_names.install(arguments.resolve)
    try:
        picture = take_picture(arguments)
    except (Failure, OSError, requests.RequestException, WebSocketException) as failure:
        print(f"jupyter_screenshot: {arguments.url}: {type(failure).__name__}: {failure}", file=sys.stderr)
        return 1
    pathlib.Path(arguments.out).write_bytes(picture)
    print(json.dumps({"ok": True, "output": EXPECTED_OUTPUT, "picture": arguments.out, "bytes": len(picture)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
