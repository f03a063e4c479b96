"""How much: live bars (2), freshness under too much load (3), the cost of a report as all else grows (10)."""

import multiprocessing
import time
import uuid
from typing import Any

import psycopg

from benchmarks.peers import running
from benchmarks.site import SERVER_CORE, Measured, Reports, Sockets, cpu, p, site, start, visitor

SERIES = "p99 of each second"  # drawn, not tabled
PER_SECOND = 10  # reports of each job
WARM_UP = 3  # seconds in which all jobs begin at once, which is another thing


def publish(amqp_url: str, queue: str | None, task_ids: list[str], rate: float, seconds: float) -> None:
    """Report for all jobs in turn and end them all; in a process of its own, beside broker and client."""
    reports = Reports(amqp_url, queue)
    reports.run(task_ids, rate, seconds)
    for task_id in task_ids:
        reports.send(task_id, "SUCCESS", 1)


def publishing(*arguments: Any) -> multiprocessing.Process:
    """Start to publish."""
    process = multiprocessing.get_context("spawn").Process(target=publish, args=arguments)
    process.start()
    return process


def jobs_of(ours: Measured, host: str, count: int) -> tuple[list[str], list[str]]:
    """Make running jobs, each of an owner of its own. Returns their ids and the owners' session cookies.

    PostgreSQL counts the rows at once, as it would by itself a minute later: until then it plans without knowing them.
    """
    cookies = [visitor(host) for _ in range(min(count, 50))]
    ids = [start(host, cookie) for cookie in cookies]
    with psycopg.connect(ours.environment["DATABASE_URL"], autocommit=True) as database:
        more = [str(uuid.uuid4()) for _ in range(count - len(ids))]
        database.cursor().executemany(
            'INSERT INTO "livejobs_job" (id, ref, owner, kind, title, params, state, description, seq, attempt, error,'
            " traceback, file, created_at, sent)"
            " VALUES (%s, %s, %s, 'report', 'Report', '{}', 'PENDING', '', 0, 0, '', '', '', now(), true)",
            [(task_id, uuid.uuid4(), f"visitor-{task_id}") for task_id in more],
        )
        database.execute('ANALYZE "livejobs_job"')
    return ids + more, cookies


def watch_each(ours: Measured, host: str, ids: list[str]) -> Sockets:
    """Open a socket for each job, which sees that job alone."""
    with psycopg.connect(ours.environment["DATABASE_URL"], autocommit=True) as database:
        database.execute('UPDATE "livejobs_job" SET owner = (SELECT owner FROM "livejobs_job" WHERE id = %s)', [ids[0]])
    return Sockets(host, len(ids), [f"/ws/task_status/{task_id}/" for task_id in ids], cookies=[ours.cookie])


def live_bars_of_site(count: int, seconds: float, rate: float | None = None) -> dict[str, Any]:
    """Measure this site with so many jobs, each with its own socket."""
    with site() as ours:
        host = ours.web_on("uvicorn")
        ours.cookie = visitor(host)
        first = start(host, ours.cookie)
        ids, _ = jobs_of(ours, host, count - 1)
        client = watch_each(ours, host, [first, *ids])
        client.ready()
        return carried(client, ours.environment["CELERY_BROKER_URL"], None, [first, *ids], seconds, rate, ours.web_pid)


def live_bars_of_stock(count: int, seconds: float, rate: float | None = None) -> dict[str, Any]:
    """Measure stock Channels."""
    with running("stock_main_loop", server="uvicorn", web_core=SERVER_CORE, worker_core=1) as peer:
        ids = [str(uuid.uuid4()) for _ in range(count)]
        client = Sockets(peer.host, count, [peer.path(task_id) for task_id in ids], greeted=False)
        client.ready()
        return carried(client, peer.amqp_url, peer.reply_queue, ids, seconds, rate, peer.web_pid)


def carried(
    client: Sockets, amqp_url: str, queue: str | None, ids: list[str], seconds: float, rate: float | None, web_pid: int
) -> dict[str, Any]:
    """Publish, and return what has come of it."""
    rate = rate or len(ids) * PER_SECOND
    used, began = cpu(web_pid), time.time()
    process = publishing(amqp_url, queue, ids, rate, seconds)
    process.join()
    took = time.time() - began
    time.sleep(2)
    notes = client.notes()
    pairs = sorted(zip(notes["arrivals"], notes["latencies"], strict=True))
    settled = [latency for arrival, latency in pairs if arrival > pairs[0][0] + WARM_UP] if pairs else []
    half = len(settled) // 2
    return {
        "jobs": len(ids),
        "offered a second": rate,
        "published a second": rate * seconds / took,
        "p50": p(settled, 0.5),
        "p99": p(settled, 0.99),
        "p99 first half": p(settled[:half], 0.99),
        "p99 second half": p(settled[half:], 0.99),
        SERIES: by_second(pairs),
        "shown a second": len(settled) / max(seconds - WARM_UP, 1),
        "ends": notes["ends"],
        "web CPU": (cpu(web_pid) - used) / took,
        "client CPU": notes["cpu"] / took,
        "raw": settled,
    }


def by_second(pairs: list[tuple[float, float]]) -> list[float]:
    """Return the 99th percentile of each second's latencies, of pairs of arrival and latency in order."""
    seconds: dict[int, list[float]] = {}
    for arrival, latency in pairs:
        seconds.setdefault(int(arrival - pairs[0][0]), []).append(latency)
    return [round(p(values, 0.99)) for values in seconds.values()]


def live_bars() -> dict[str, Any]:
    """2: as many bars as there can be, with p99 within 100 ms and every end delivered."""
    results = {}
    for name, measure, levels in (
        ("this site, uvicorn", live_bars_of_site, (250, 500, 1000, 1500)),
        ("stock_main_loop, uvicorn", live_bars_of_stock, (50, 100)),
    ):
        for count in levels:
            result = results[f"{name}, {count} jobs"] = measure(count, 9)
            if result["p99"] > 100 or result["ends"] < count:
                break
    return results


def freshness(offered: float = 30_000) -> dict[str, Any]:
    """3: the age of what is shown, while more is reported than the machine can carry.

    30 000 reports a second is about all that RabbitMQ takes here: some sixty times what stock Channels carries, and
    three times what this site does. Ten times what it carries are 10 jobs with 1 000 watchers each, at 60 reports a
    second each: 600 000 frames a second would have to be sent.
    """
    return {
        "this site, uvicorn": live_bars_of_site(1000, 60, offered),
        "this site, uvicorn, 1000 watchers": watched_by_many(10, 1000, 60, 600),
        "stock_main_loop, uvicorn": live_bars_of_stock(1000, 15, offered),
    }


def watched_by_many(jobs: int, watchers: int, seconds: float, rate: float) -> dict[str, Any]:
    """Measure this site with one owner's jobs, all of them on each of so many pages."""
    with site() as ours:
        host = ours.web_on("uvicorn")
        cookie = visitor(host)
        ids = [start(host, cookie) for _ in range(jobs)]
        client = Sockets(host, watchers, ["/ws/jobs/"], cookies=[cookie])
        client.ready()
        return carried(client, ours.environment["CELERY_BROKER_URL"], None, ids, seconds, rate, ours.web_pid)


def flat() -> dict[str, Any]:
    """10: CPU of the web process for each report, in microseconds, as jobs, watchers and history grow.

    The watchers all see one job of ten: with 100, there are ten frames to be sent for each report.
    """
    return {
        "jobs": {jobs: cost(jobs) for jobs in (10, 1000, 10_000)},
        "history": {history: cost(100, history=history) for history in (1, 1_000_000)},
        "watchers": {watchers: cost(10, watchers) for watchers in (1, 100)},
    }


def cost(jobs: int, watchers: int = 1, history: int = 1) -> float:
    """Return the CPU microseconds of the web process for each of 1000 reports a second.

    Args:
        jobs: how many report in turn.
        watchers: sockets of the first job's owner.
        history: finished jobs of the first job's owner.
    """
    with site() as ours:
        host = ours.web_on("uvicorn")
        ids, cookies = jobs_of(ours, host, jobs)
        with psycopg.connect(ours.environment["DATABASE_URL"], autocommit=True) as database:
            database.execute(
                'INSERT INTO "livejobs_job" (id, ref, owner, kind, title, params, state, description, seq, attempt,'
                " error, traceback, file, created_at, finished_at) SELECT gen_random_uuid(), gen_random_uuid(),"
                " (SELECT owner FROM \"livejobs_job\" WHERE id = %s), 'report', 'Report', '{}', 'SUCCESS', '', 1, 1,"
                " '', '', '', now() - interval '1 day', now() FROM generate_series(1, %s)",
                [ids[0], history],
            )
            database.execute('ANALYZE "livejobs_job"')
        client = Sockets(host, watchers, ["/ws/jobs/"], cookies=cookies[:1])
        client.ready()
        reports = Reports(ours.environment["CELERY_BROKER_URL"])
        reports.run(ids, 1000, max(2, 3 * jobs / 1000))  # every job is known, and has been saved
        used = cpu(ours.web_pid)
        count = reports.run(ids, 1000, 5)
        time.sleep(1)
        used = cpu(ours.web_pid) - used
        client.notes()
        return 1e6 * used / count
