"""The path for real: page, socket, web process, broker, worker and back, each a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import uuid
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from testkit.processes import Site, wait_until
from testkit.services import rabbitmqctl

FINAL = {"SUCCESS", "FAILURE", "REVOKED"}


@pytest.fixture
def embedded(tmp_path):
    """The embedded site: nothing but Python."""
    site = Site(tmp_path)
    yield site
    site.kill_all()


@pytest.fixture
def full(tmp_path, amqp_url, redis_url, postgres_url):
    """The full site: RabbitMQ, Redis and PostgreSQL."""
    site = Site(tmp_path, CELERY_BROKER_URL=amqp_url, REDIS_URL=redis_url, DATABASE_URL=postgres_url)
    yield site
    site.kill_all()


@pytest.fixture
def on_redis(tmp_path, redis_broker_url, redis_url, postgres_url):
    """The full site with Redis as its broker."""
    site = Site(tmp_path, CELERY_BROKER_URL=redis_broker_url, REDIS_URL=redis_url, DATABASE_URL=postgres_url)
    yield site
    site.kill_all()


@pytest.fixture(params=["embedded", "full", "on_redis"])
def site(request):
    """Every way to run."""
    return request.getfixturevalue(request.param)


async def visit(host) -> str:
    """Open the page. Returns the session cookie."""
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    page = (await reader.read()).decode()
    writer.close()
    return next(line.split(" ")[1].rstrip(";") for line in page.splitlines() if line.startswith("Set-Cookie: session"))


def page(host, cookie=None, path="/ws/jobs/"):
    return connect(f"ws://{host}{path}", additional_headers={"Cookie": cookie} if cookie else {}, open_timeout=30)


async def start(socket, below) -> str:
    ref = str(uuid.uuid4())
    await socket.send(json.dumps({"type": "start", "kind": "count_primes", "params": {"below": below}, "ref": ref}))
    return ref


async def until_the_end(socket) -> list[dict]:
    frames = []
    while not frames or frames[-1]["state"] not in FINAL:
        frames.append(json.loads(await socket.recv()))
        assert frames[-1]["type"] == "job", frames[-1]
    return frames


def states(frames) -> list[str]:
    return [frame["state"] for n, frame in enumerate(frames) if n == 0 or frames[n - 1]["state"] != frame["state"]]


def percentages(frames) -> list[float]:
    return [frame["percent"] for frame in frames if frame["percent"] is not None]


async def test_a_job_goes_all_its_way(site):
    host = site.web()
    site.worker()
    async with asyncio.timeout(180), page(host) as socket:
        ref = await start(socket, 2_000_000)
        frames = await until_the_end(socket)
    assert {frame["ref"] for frame in frames} == {ref}
    assert states(frames) == ["PENDING", "STARTED", "PROGRESS", "SUCCESS"]
    assert frames[-1]["result"] == 148_933
    assert len(set(percentages(frames))) >= 10
    assert percentages(frames) == sorted(percentages(frames))
    assert percentages(frames)[-1] == 100


@pytest.mark.parametrize("kind", ["full", "on_redis"])
async def test_a_job_started_through_one_web_process_is_watched_through_the_other(request, kind):
    site = request.getfixturevalue(kind)
    hosts = site.web(), site.web()
    site.worker()
    async with asyncio.timeout(180):
        cookie = await visit(hosts[0])
        async with page(hosts[0], cookie) as one, page(hosts[1], cookie) as other:
            await start(one, 1_000_000)
            here, there = await asyncio.gather(until_the_end(one), until_the_end(other))
    # On Redis, both relays take replies: a STARTED that is taken after the first percentage is no news any more.
    everything = ["PENDING", "STARTED", "PROGRESS", "SUCCESS"]
    for told in (states(here), states(there)):
        assert told == everything or (kind == "on_redis" and told == ["PENDING", "PROGRESS", "SUCCESS"])
    assert here[-1] == there[-1]
    assert here[-1]["result"] == 78_498


async def test_a_job_waits_for_a_worker_and_goes_when_one_comes(site):
    host = site.web()
    async with asyncio.timeout(180), page(host) as socket:
        await start(socket, 10_000)
        assert json.loads(await socket.recv())["state"] == "PENDING"
        await asyncio.to_thread(site.worker)
        assert states(await until_the_end(socket))[-1] == "SUCCESS"


async def test_a_job_that_ended_while_no_web_process_ran_is_shown_as_ended(site):
    first = site.web()
    site.worker()
    async with asyncio.timeout(180):
        cookie = await visit(first)
        async with page(first, cookie) as socket:
            await start(socket, 3_000_000)
            while json.loads(await socket.recv())["state"] != "PROGRESS":
                pass
            web = next(process for process in site.processes if "runserver" in process.args)
            await asyncio.to_thread(site.stop, web)
        worker = next(path.stem for path in site.folder.glob("worker-*.log"))
        await asyncio.to_thread(wait_until, lambda: "succeeded" in site.log(worker), "the job has ended")
        second = await asyncio.to_thread(site.web)
        async with page(second, cookie) as socket:
            frames = await until_the_end(socket)
    assert frames[-1]["result"] == 216_816


async def test_a_broker_out_of_reach_is_told_soon_and_the_site_stays_up(tmp_path):
    site = Site(tmp_path, CELERY_BROKER_URL="amqp://guest:guest@127.0.0.1:1//")
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(site.kill_all)
        host = site.web()
        async with asyncio.timeout(180), page(host) as socket:
            await start(socket, 10_000)
            async with asyncio.timeout(15):  # it takes 3 s at most if the machine is not busy
                frames = await until_the_end(socket)
            assert frames[-1]["state"] == "FAILURE"
            assert "broker" in frames[-1]["error"]
            await visit(host)


@pytest.mark.parametrize(("kind", "workers"), [("full", 4), ("on_redis", 4), ("embedded", 2)])
async def test_fifty_visitors_at_the_same_moment(request, kind, workers):
    site = request.getfixturevalue(kind)
    host = site.web()
    site.worker(workers)
    together = asyncio.Barrier(50)

    async def visitor() -> list[dict]:
        async with page(host) as socket:
            await together.wait()
            ref = await start(socket, 60_000)
            frames = await until_the_end(socket)
            assert {frame["ref"] for frame in frames} == {ref}, "somebody else's news"
            await socket.ping()
        return frames

    async with asyncio.timeout(180):
        visitors = await asyncio.gather(*(visitor() for _ in range(50)))
    assert [frames[-1]["result"] for frames in visitors] == [6_057] * 50
    for frames in visitors:
        assert percentages(frames) == sorted(percentages(frames))
        assert percentages(frames)[-1] == 100
    assert len({frames[-1]["task_id"] for frames in visitors}) == 50


async def test_no_orphan_queue_is_left(full, amqp_url):
    host = full.web()
    full.worker()
    for _ in range(3):
        async with asyncio.timeout(180), page(host) as socket:
            await start(socket, 10_000)
            await until_the_end(socket)
    queues = rabbitmqctl("list_queues", "-p", amqp_url.rpartition("/")[2], "name").split()[1:]
    ours = {"celeryprogressbar.jobs", "celeryprogressbar.replies"}
    assert ours <= set(queues)
    celerys = [name for name in set(queues) - ours if not (name.endswith(".pidbox") or name.startswith("celeryev."))]
    assert celerys == []


async def told_until(socket, condition) -> dict:
    """Return the first frame that meets a condition."""
    while not condition(frame := json.loads(await socket.recv())):
        continue
    return frame


async def test_a_running_job_is_cancelled_and_the_worker_goes_on_with_the_next(site):
    host = site.web()
    site.worker(1)
    async with asyncio.timeout(180), page(host) as socket:
        await start(socket, 100_000_000)
        running = await told_until(socket, lambda frame: frame["percent"])
        await socket.send(json.dumps({"type": "cancel", "task_id": running["task_id"]}))
        end = await told_until(socket, lambda frame: frame["state"] in FINAL)
        assert (end["state"], end["cancelling"], end["error"]) == ("REVOKED", False, None)
        assert end["percent"] >= running["percent"]
        await start(socket, 10_000)
        end = await told_until(socket, lambda frame: frame["state"] in FINAL)
        assert (end["state"], end["result"], end["attempt"]) == ("SUCCESS", 1229, 1)


async def test_a_job_that_waits_is_cancelled_and_never_begins(site):
    host = site.web()
    async with asyncio.timeout(180), page(host) as socket:
        await start(socket, 100_000_000)
        waiting = await told_until(socket, lambda frame: True)
        await socket.send(json.dumps({"type": "cancel", "task_id": waiting["task_id"]}))
        assert (await told_until(socket, lambda frame: frame["state"] in FINAL))["state"] == "REVOKED"
        site.worker(1)
        await start(socket, 10_000)
        frames = await until_the_end(socket)
        assert frames[-1]["state"] == "SUCCESS"
        assert waiting["task_id"] not in {frame["task_id"] for frame in frames}


def test_a_worker_whose_idle_children_are_killed_runs_the_next_job(embedded):
    worker = embedded.worker(2)
    for child in children(worker):
        os.kill(child, signal.SIGKILL)
    start = "from livejobs import jobs; jobs.start('visitor-1', 'count_primes', {'below': 1000}, by_site=True)"
    embedded.manage("shell", "-v", "0", "-c", start)
    wait_until(lambda: "succeeded" in embedded.log("worker-1"), "the job is done")


def children(process) -> list[int]:
    """Return the children of a process."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for thread in threads for pid in thread.read_text().split()]
