"""Runs a notebook in JupyterLab with a real browser and takes a picture of it.

Stores a notebook with one code cell through the contents API, opens it in headless Chromium, runs all cells through
the page (so the browser's own WebSocket carries the code and its output), waits for the output to be shown and writes
a PNG. JupyterLab must run with `--LabApp.expose_app_in_browser=True`. Prints one line of JSON, or exits 1 with the
reason. Every wait is bounded.
"""

import argparse
import json
import sys
import uuid

import requests

from browser import WAIT_S, Failure, Page, browser_page, picture_of_jupyter

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


def run_notebook(page: Page, url: str) -> bytes:
    """Opens the notebook, runs it and returns the picture."""
    page.open(url)
    page.wait_until(NOTEBOOK_IS_SHOWN, "the notebook is shown and its kernel idle")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")
    page.wait_until(OUTPUT_IS_SHOWN, f"the output {EXPECTED_OUTPUT!r} is shown")
    return page.picture()


def take_picture(arguments: argparse.Namespace) -> bytes:
    base = arguments.url.rstrip("/")
    name = f"demo-{uuid.uuid4().hex[:8]}.ipynb"
    store_notebook(base, arguments.token, name)
    with browser_page(arguments.chromium, arguments.resolve) as page:
        # `reset` opens an empty workspace, whatever earlier visits left open.
        return run_notebook(page, f"{base}/lab/tree/{name}?token={arguments.token}&reset")


if __name__ == "__main__":
    sys.exit(picture_of_jupyter("jupyter_screenshot", __doc__, EXPECTED_OUTPUT, take_picture))
