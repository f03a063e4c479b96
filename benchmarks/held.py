"""How many can be held: idle sockets (7), and all of them coming back at once (8)."""

import time
import uuid
from typing import Any

from benchmarks.peers import running
from benchmarks.site import SERVER_CORE, Sockets, cpu, resident, site, start, visitor

IDLE, STORM = 15_000, 2_000
ROUNDS = 5  # of storms: one lasts a second, and says little


def hold(host: str, path: str, cookies: list[str], web_pid: int, count: int) -> dict[str, Any]:
    """Open sockets, and see what they cost while nothing happens."""
    before = resident(web_pid)
    client = Sockets(host, count, [path], cookies=cookies, at_once=100, greeted=bool(cookies), patience=180)
    client.ready()
    time.sleep(2)
    held, used = resident(web_pid) - before, cpu(web_pid)
    time.sleep(10)
    used = (cpu(web_pid) - used) / 10
    notes = client.notes()
    open_ = notes["open"] - notes["lost"]
    return {"held": open_, "KiB each": held / max(open_, 1), "CPU in all": used, "refusals": notes["refusals"]}


def idle() -> dict[str, Any]:
    """7: memory and CPU of idle sockets on one web process."""
    results = {}
    for server in ("uvicorn", "daphne"):
        with site() as ours:
            host = ours.web_on(server)
            cookie = visitor(host)
            start(host, cookie)
            results[f"this site, {server}"] = hold(host, "/ws/jobs/", [cookie], ours.web_pid, IDLE)
        with running("stock_memory", server=server, web_core=SERVER_CORE) as peer:
            path = peer.path(str(uuid.uuid4()))
            results[f"stock_memory, {server}"] = hold(peer.host, path, [], peer.web_pid, 3000)
    return results


def storm() -> dict[str, Any]:
    """8: 2 000 sockets that were cut at once, until the last has its snapshot (of stock: until it is open).

    Each of this site's is another visitor's, with a job of its own. Of its rounds, the median counts.
    """
    results = {}
    for server in ("uvicorn", "daphne"):
        with site() as ours:
            host = ours.web_on(server)
            cookies = ours.visitors(STORM)
            rounds = [come_back(host, "/ws/jobs/", cookies, ours.web_pid) for _ in range(ROUNDS)]
            rounds.sort(key=lambda one: one["a second"])
            speeds = ", ".join(f"{one['a second']:.0f}" for one in rounds)
            results[f"this site, {server}"] = rounds[ROUNDS // 2] | {"rounds": speeds}
        with running("stock", server=server, web_core=SERVER_CORE) as peer:
            path = peer.path(str(uuid.uuid4()))
            results[f"stock, {server}"] = come_back(peer.host, path, [], peer.web_pid)
    return results


def come_back(host: str, path: str, cookies: list[str], web_pid: int) -> dict[str, Any]:
    """Open all sockets, cut them, and time how they come back."""
    Sockets(host, STORM, [path], cookies=cookies, at_once=500, greeted=bool(cookies), patience=20).cut()
    time.sleep(2)
    used, began = cpu(web_pid), time.time()
    client = Sockets(host, STORM, [path], cookies=cookies, at_once=500, greeted=bool(cookies), patience=20)
    client.ready()
    took = time.time() - began
    notes = client.notes()
    if notes["last_greeting"]:
        took = notes["last_greeting"] - notes["began"]
    return {
        "came back": notes["greetings"] if cookies else notes["open"],
        "a second": notes["open"] / took,
        "seconds": took,
        "web CPU ms each": 1000 * (cpu(web_pid) - used) / STORM,
        "refusals": notes["refusals"],
    }
