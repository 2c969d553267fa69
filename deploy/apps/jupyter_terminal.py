"""Types a command into a terminal of JupyterLab with a real browser and takes a picture of it.

Opens JupyterLab in headless Chromium, opens a terminal there, types with the keyboard and waits until the output is on
the screen: the browser's own WebSocket carries keys and screen. JupyterLab must run with
`--LabApp.expose_app_in_browser=True`. Prints one line of JSON, or exits 1 with the reason. Every wait is bounded.
"""

import argparse
import sys

from browser import Page, browser_page, picture_of_jupyter

TYPED = "echo through-$((6*7))"
EXPECTED_OUTPUT = "through-42"

LAB_IS_SHOWN = "window.jupyterapp?.restored.then(() => true)"
TERMINAL_IS_CONNECTED = """
    window.jupyterapp.shell.currentWidget?.content?.session?.connectionStatus === 'connected'"""
SCREEN = """
    (() => {
        const buffer = window.jupyterapp.shell.currentWidget?.content?._term?.buffer.active;
        if (!buffer) return "";  // the terminal emulator is loaded when it is first needed
        return [...Array(buffer.length).keys()].map(row => buffer.getLine(row).translateToString(true)).join("\\n");
    })()"""


def use_terminal(page: Page, url: str) -> bytes:
    """Opens a terminal, types the command and returns the picture."""
    page.open(url)
    page.wait_until(LAB_IS_SHOWN, "JupyterLab is shown")
    page.evaluate("window.jupyterapp.commands.execute('terminal:create-new').then(() => true)")
    page.wait_until(TERMINAL_IS_CONNECTED, "the terminal is connected")
    page.wait_until(f"({SCREEN}).trim() !== ''", "the shell's prompt is shown")
    page.evaluate("window.jupyterapp.shell.currentWidget.content._term.focus()")
    page.call("Input.insertText", text=TYPED)
    for kind in ["keyDown", "keyUp"]:
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    page.wait_until(f"({SCREEN}).includes({EXPECTED_OUTPUT!r})", f"the output {EXPECTED_OUTPUT!r} is shown")
    return page.picture()


def take_picture(arguments: argparse.Namespace) -> bytes:
    with browser_page(arguments.chromium, arguments.resolve) as page:
        # `reset` opens an empty workspace, whatever earlier visits left open.
        return use_terminal(page, f"{arguments.url.rstrip('/')}/lab?token={arguments.token}&reset")


if __name__ == "__main__":
    sys.exit(picture_of_jupyter("jupyter_terminal", __doc__, EXPECTED_OUTPUT, take_picture))
