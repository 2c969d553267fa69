"""Plays a page on one circuit that wants to use another one with the cookie that the browser holds for it.

First the browser follows a ticket, and the circuit's own page must work: a fetch, a form and a WebSocket. Then a page of
the neighbour tries the same and more. Prints one line of JSON with what each attempt came to, or exits 1 with the reason.
"""

import argparse
import json
import sys
import urllib.parse

import requests
from websockets.exceptions import WebSocketException

import local_names
from browser import Failure, Page, browser_page

# What a script may try; each comes to a word. A promise that never ends is a failure of the driver.
ATTEMPTS = """
(async (victim, socket) => {
    const limited = (attempt) => Promise.race([attempt, new Promise((done) => setTimeout(done, 20000, "no end"))]);
    const asked = (options, path) => fetch(victim + path, {credentials: "include", ...options})
        .then((answer) => answer.type === "opaque" ? "opaque" : String(answer.status), () => "error");
    const loaded = (tag, attribute) => new Promise((done) => {
        const element = document.createElement(tag);
        element.onload = () => done("loaded");
        element.onerror = () => done("error");
        element[attribute] = victim + "/" + tag;
        document.body.append(element);
    });
    const opened = new Promise((done) => {
        const channel = new WebSocket(socket + "/ws");
        channel.onopen = () => channel.send("hello");
        channel.onmessage = (message) => done(message.data);
        channel.onerror = () => done("error");
    });
    return {
        fetch: await limited(asked({}, "/fetch")),
        fetch_blind: await limited(asked({mode: "no-cors"}, "/fetch-blind")),
        post: await limited(asked({method: "POST", mode: "no-cors", body: "x"}, "/post")),
        put: await limited(asked({method: "PUT", body: "x"}, "/put")),
        beacon: navigator.sendBeacon(victim + "/beacon", "x") ? "sent" : "error",
        image: await limited(loaded("img", "src")),
        script: await limited(loaded("script", "src")),
        frame: await limited(loaded("iframe", "src")),
        websocket: await limited(opened),
    };
})(%s, %s)
"""

FORM = """
(() => {
    const form = document.createElement("form");
    form.method = "POST";
    form.action = %s + "/form";
    document.body.append(form);
    form.submit();
})()
"""


def script(template: str, *values: str) -> str:
    return template % tuple(json.dumps(value) for value in values)


def arrive(page: Page, url: str, at: str) -> None:
    """Goes to a URL and waits until the browser shows a page of this origin."""
    page.open(url)
    page.wait_until(f"location.origin === {json.dumps(at)} && document.readyState === 'complete'", at)


def attempts(page: Page, victim: str) -> dict:
    return page.evaluate(script(ATTEMPTS, victim, victim.replace("http", "ws", 1)))


def submit(page: Page, victim: str) -> str:
    """Submits a form to the circuit and returns what the browser shows then."""
    page.evaluate(script(FORM, victim))
    shown = f"location.href === {json.dumps(victim + '/form')} && document.readyState === 'complete'"
    page.wait_until(shown, "the answer to the form")
    return page.evaluate("document.body.innerText")


def play(arguments: argparse.Namespace) -> dict:
    parts = urllib.parse.urlsplit(arguments.ticket)
    victim = f"{parts.scheme}://{parts.netloc}"
    neighbour = arguments.neighbour.rstrip("/")
    with browser_page(arguments.chromium, arguments.resolve) as page:
        arrive(page, arguments.ticket, victim)
        first = page.evaluate("location.pathname + location.search")
        own = attempts(page, victim)
        own["form"] = submit(page, victim)
        arrive(page, neighbour + "/page", neighbour)
        foreign = attempts(page, victim)
        arrive(page, neighbour + "/page", neighbour)
        foreign["form"] = submit(page, victim)
        picture = page.picture()
    if arguments.out:
        with open(arguments.out, "wb") as file:
            file.write(picture)
    return {"ok": True, "first": first, "own": own, "foreign": foreign}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticket", required=True, help="URL of a ticket of the private circuit")
    parser.add_argument("--neighbour", required=True, help="URL of the other circuit")
    parser.add_argument("--out", help="a PNG of what the browser shows in the end")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    local_names.add_resolve_option(parser)
    arguments = parser.parse_args()
    local_names.install(arguments.resolve)
    try:
        result = play(arguments)
    except (Failure, OSError, requests.RequestException, WebSocketException) as failure:
        print(f"neighbour: {arguments.ticket}: {type(failure).__name__}: {failure}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
