"""Run every peer once: `python -m benchmarks.peers.check [--server uvicorn] [NAME ...]`. Fails if one delivers nothing.

Each runs `report(20, 10)`. Tells the median of arrival - due of the first frame that carried each report, how many
of the 20 arrived, and whether the end came.
"""

import argparse
import http.client
import statistics
import sys
import time
import uuid
from collections.abc import Iterator

from websockets.sync.client import connect

from benchmarks.peers import KINDS, Peer, running

COUNT, RATE = 20, 10
PATIENCE = 15  # seconds; the reports take two


def frames(peer: Peer, path: str, task_id: str | None, first: str | None) -> Iterator[tuple[str, float]]:
    """Start a task, by the first frame alone where there is no task id; yield what a socket tells, and when."""
    with connect(f"ws://{peer.host}{path}", proxy=None) as socket:
        if first:
            socket.send(first)
        if task_id:
            peer.start(COUNT, RATE, task_id)
        deadline = time.time() + PATIENCE
        while time.time() < deadline:
            try:
                text = socket.recv(timeout=deadline - time.time())
            except TimeoutError:
                return
            yield text, time.time()


def answers(peer: Peer, task_id: str, count: int, rate: float) -> Iterator[tuple[str, float]]:
    """Start a task and ask over HTTP, as celery-progress's script does; yield what the answers tell, and when."""
    connection = http.client.HTTPConnection(peer.host, timeout=PATIENCE)
    peer.start(count, rate, task_id)
    deadline = time.time() + count / rate + PATIENCE
    while time.time() < deadline:
        connection.request("GET", peer.path(task_id))
        text = connection.getresponse().read().decode()
        yield text, time.time()
        if peer.end(text):
            return
        time.sleep(peer.poll_interval)


def check(what: str, peer: Peer, told: Iterator[tuple[str, float]]) -> bool:
    """Print what has come of one task, and return whether anything has."""
    arrivals, ended, number = {}, False, 0
    for text, now in told:
        number += 1
        due = peer.due(text)
        if due is not None:
            arrivals.setdefault(due, now)
        if ended := peer.end(text):
            break
    median = statistics.median(1000 * (now - due) for due, now in arrivals.items()) if arrivals else float("nan")
    print(
        f"{what:35} median {median:8.1f} ms   reports {len(arrivals):2}/{COUNT}   frames {number:2}   "
        f"{'ended' if ended else 'NO END'}",
        flush=True,
    )
    return bool(arrivals) and ended


def main() -> int:
    """Check the peers named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(KINDS))
    parser.add_argument("--server", default="daphne", choices=["daphne", "uvicorn"])
    arguments = parser.parse_args()
    good = True
    for name in arguments.names or KINDS:
        with running(name, server=arguments.server) as peer:
            task_id = str(uuid.uuid4())
            if peer.poll_interval:
                told = answers(peer, task_id, COUNT, RATE)
            else:
                told = frames(peer, peer.path(task_id), task_id, peer.opening(COUNT, RATE))
            good &= check(name, peer, told)
            if peer.start_path and peer.start_path != peer.path(task_id):
                started = frames(peer, peer.start_path, None, peer.start_text(COUNT, RATE))
                good &= check(f"{name} at {peer.start_path}", peer, started)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
