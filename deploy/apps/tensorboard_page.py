"""Loads TensorBoard's page and its data, and says whether everything is there.

Prints one line of JSON, or exits 1 with the reason. `--write-events DIR` writes a run with one scalar series instead,
for a TensorBoard to show. Every wait is bounded by `WAIT_S`.
"""

import argparse
import json
import sys
import time

import requests

import local_names

WAIT_S = 60
RUN = "demo"
STEPS = 20


class Failure(Exception):
    """What did not work, in words."""


def write_events(folder: str) -> None:
    """Writes the run `demo` with a falling `loss`."""
    from tensorboard.summary import Writer  # slow to import, and only this path needs it

    writer = Writer(f"{folder}/{RUN}")
    for step in range(STEPS):
        writer.add_scalar("loss", 1.0 / (step + 1), step)
    writer.close()


def load(base: str, expected_run: str | None) -> dict:
    """Loads the page, the environment and the runs; waits for the expected run, which is read in the background."""
    session = requests.Session()
    session.trust_env = False  # no proxy settings from the environment
    page = get(session, base + "/", {"Accept": "text/html"})
    if "tb-relative-root" not in page.text:
        raise Failure(f"GET /: not TensorBoard's page: {page.text[:300]}")
    version = get(session, base + "/data/environment").json()["version"]
    deadline = time.monotonic() + WAIT_S
    while True:
        runs = get(session, base + "/data/runs").json()
        if expected_run is None or expected_run in runs:
            return {"ok": True, "version": version, "runs": runs, "page_bytes": len(page.content)}
        if time.monotonic() > deadline:
            raise Failure(f"GET /data/runs: {runs} after {WAIT_S} s, expected {expected_run!r}")
        time.sleep(0.2)


def get(session: requests.Session, url: str, headers: dict | None = None) -> requests.Response:
    response = session.get(url, headers=headers, timeout=WAIT_S)
    if response.status_code != 200:
        raise Failure(f"GET {url}: status {response.status_code}: {response.text[:300]}")
    return response


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--url", help="public URL, e.g. http://board.apps.localhost:6130/")
    what.add_argument("--write-events", metavar="DIR", help=f"write the run {RUN!r} to DIR and stop")
    parser.add_argument("--run", help="wait until this run is listed")
    local_names.add_resolve_option(parser)
    arguments = parser.parse_args()
    local_names.install(arguments.resolve)
    if arguments.write_events:
        write_events(arguments.write_events)
        return 0
    try:
        result = load(arguments.url.rstrip("/"), arguments.run)
    except (Failure, OSError, requests.RequestException) as failure:
        print(f"tensorboard_page: {arguments.url}: {type(failure).__name__}: {failure}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
