"""How soon: from a report in a worker to its frame (1), from the click to the first frame (9)."""

import json
import time
import uuid
from typing import Any

from websockets.sync.client import connect

from benchmarks.peers import running
from benchmarks.peers.check import answers
from benchmarks.site import CLIENT_CORE, SERVER_CORE, Sockets, p, site, start, visitor

RATE, SECONDS, PRESSES = 50, 10, 30
TURNS = 3
SERVERS = ("uvicorn", "daphne")
PEERS = ["stock", "stock_main_loop", "celery_progress_websocket", "tutorial"]


def summary(latencies: list[float]) -> dict[str, Any]:
    """Return what the latencies of one row come to, the first tenth left out."""
    return row(latencies[len(latencies) // 10 :])


def row(values: list[float]) -> dict[str, Any]:
    """Return a row of the table."""
    return {"p50": p(values, 0.5), "p99": p(values, 0.99), "frames": len(values), "raw": values}


def of_peer(name: str) -> dict[str, Any]:
    """Measure a peer's way from `update_state` to the frame."""
    with running(name, server="uvicorn", web_core=SERVER_CORE, worker_core=CLIENT_CORE) as peer:
        task_id, count = str(uuid.uuid4()), RATE * SECONDS
        say = peer.opening(count, RATE) or ""
        client = Sockets(peer.host, 1, [peer.path(task_id)], say=say, greeted=False)
        client.ready()
        peer.start(count, RATE, task_id)
        time.sleep(SECONDS + 1)
        return summary(client.notes()["latencies"])


def of_polling() -> dict[str, Any]:
    """Measure celery-progress asked over HTTP: from a report to the answer that shows it."""
    name = "celery_progress_polling"
    with running(name, server="uvicorn", web_core=SERVER_CORE, worker_core=CLIENT_CORE) as peer:
        told = list(answers(peer, str(uuid.uuid4()), RATE * SECONDS, RATE))
        return summary([now - due for text, now in told if (due := peer.due(text))])


def of_site(server: str) -> dict[str, Any]:
    """Measure this site's."""
    with site() as ours:
        host, _ = ours.web_on(server), ours.worker_on(CLIENT_CORE)
        cookie = visitor(host)
        client = Sockets(host, 1, ["/ws/jobs/"], cookies=[cookie], greeted=False)
        client.ready()
        start(host, cookie, "report", count=RATE * SECONDS, rate=RATE)
        time.sleep(SECONDS + 1)
        return summary(client.notes()["latencies"])


def report_to_frame() -> dict[str, Any]:
    """1: one job, RabbitMQ. The floor and this site take turns, as the machine's speed changes with the minutes."""
    turns: dict[str, list[float]] = {}
    for _ in range(TURNS):
        measures = {"floor": of_peer("floor")} | {f"this site, {server}": of_site(server) for server in SERVERS}
        for name, measured in measures.items():
            turns.setdefault(name, []).extend(measured["raw"])
    results = {name: row(latencies) for name, latencies in turns.items()}
    results |= {name: of_peer(name) for name in PEERS}
    return results | {"celery_progress_polling": of_polling()}


def click_to_frame() -> dict[str, Any]:
    """9: an idle worker; milliseconds from sending the start to the first frame, and to the first percentage."""
    results = {}
    for server in SERVERS:
        with site() as ours:
            host, _ = ours.web_on(server), ours.worker_on(CLIENT_CORE)
            firsts, percentages = [], []
            with connect(f"ws://{host}/ws/jobs/") as socket:
                for _ in range(PRESSES):
                    began = time.perf_counter()
                    socket.send(json.dumps({"type": "start", "kind": "report", "params": {"count": 1, "rate": 1000}}))
                    frame = json.loads(socket.recv())
                    firsts.append(time.perf_counter() - began)
                    while frame["state"] != "SUCCESS":
                        if frame["percent"] is not None and len(percentages) < len(firsts):
                            percentages.append(time.perf_counter() - began)
                        frame = json.loads(socket.recv())
        results[f"this site, {server}"] = {
            "first frame p50": p(firsts, 0.5),
            "first percentage p50": p(percentages, 0.5),
            "raw": firsts,
        }
    with running("stock_main_loop", server="uvicorn", web_core=SERVER_CORE, worker_core=CLIENT_CORE) as peer:
        firsts = []
        for _ in range(PRESSES):
            with connect(f"ws://{peer.host}{peer.start_path}") as socket:
                began = time.perf_counter()
                socket.send(peer.start_text(1, 1000))
                socket.recv()
                firsts.append(time.perf_counter() - began)
        results["stock_main_loop, uvicorn"] = {"first percentage p50": p(firsts, 0.5), "raw": firsts}
    return results
