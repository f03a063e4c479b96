"""How many: one job with many watchers, at a rising rate (4) and one report at a time (5)."""

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.peers import running
from benchmarks.site import SERVER_CORE, Reports, Sockets, cpu, p, site, start, visitor

WATCHERS, CROWD = 1000, 5000
RATES = {
    "this site, daphne": (20, 50, 60, 70),
    "this site, uvicorn": (60, 65, 70, 75),
    "stock_memory, daphne": (2,),
    "stock_memory, uvicorn": (4,),
}


@contextmanager
def one_job(name: str) -> Iterator[tuple[Reports, str, Callable[[int], Sockets], int]]:
    """Run a contestant with one job. Yields its reports, the job's id, how to open watchers, and the web process."""
    kind, server = name.split(", ")
    if kind == "this site":
        with site() as ours:
            host = ours.web_on(server)
            cookie = visitor(host)
            task_id = start(host, cookie)
            reports = Reports(ours.environment["CELERY_BROKER_URL"])
            yield reports, task_id, lambda count: Sockets(host, count, ["/ws/jobs/"], cookies=[cookie]), ours.web_pid
    else:
        with running(kind, server=server, web_core=SERVER_CORE) as peer:
            task_id = str(uuid.uuid4())
            path = [peer.path(task_id)]
            reports = Reports(peer.amqp_url, peer.reply_queue)
            yield reports, task_id, lambda count: Sockets(peer.host, count, path, greeted=False), peer.web_pid


def rising_rate() -> dict[str, Any]:
    """4: deliveries a second on one core, with p99 within 30 ms."""
    results = {}
    for name, rates in RATES.items():
        best: dict[str, Any] = {}
        with one_job(name) as (reports, task_id, watchers, web_pid):
            for rate in rates:
                client = watchers(WATCHERS)
                client.ready()
                reports.run([task_id], rate, 1)
                used, began = cpu(web_pid), time.time()
                reports.run([task_id], rate, 5)
                used = (cpu(web_pid) - used) / (time.time() - began)
                time.sleep(1)
                notes = client.notes()
                pairs = zip(notes["arrivals"], notes["latencies"], strict=True)
                values = [latency for arrival, latency in pairs if arrival >= began]
                result = {
                    "rate": rate,
                    "deliveries a second": len(values) / 5,
                    "share": len(values) / (rate * 5 * WATCHERS),
                    "p50": p(values, 0.5),
                    "p99": p(values, 0.99),
                    "web CPU": used,
                    "client CPU": notes["cpu"],
                    "raw": values,
                }
                results[f"{name}, {rate}/s"] = result
                if result["p99"] <= 30 and result["deliveries a second"] > best.get("deliveries a second", 0):
                    best = result
        results[name] = {key: value for key, value in best.items() if key != "raw"}
    return results


def crowd() -> dict[str, Any]:
    """5: one report to 5 000 watchers, until the last one has it; over 10 reports, of a peer 2, as each takes long."""
    results = {}
    for name in RATES:
        with one_job(name) as (reports, task_id, watchers, _):
            client = watchers(CROWD)
            client.ready()
            for _ in range(10 if "this site" in name else 2):
                reports.report(task_id, time.time())
                time.sleep(1 if "this site" in name else 15)
            notes = client.notes()
            last: dict[float, float] = defaultdict(float)
            for arrival, latency in zip(notes["arrivals"], notes["latencies"], strict=True):
                due = round(arrival - latency, 5)
                last[due] = max(last[due], latency)
            values = sorted(last.values())
            results[name] = {
                "last p50": p(values, 0.5),
                "last p99": p(values, 0.99),
                "frames": len(notes["latencies"]),
                "raw": values,
            }
    return results
