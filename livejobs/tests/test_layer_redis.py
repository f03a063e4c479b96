"""What hubs of several processes tell each other over Redis, which drops messages and may hold anything."""

import asyncio
import time

import pytest
from channels.layers import channel_layers
from channels_redis.core import RedisChannelLayer
from django.test import Client

from livejobs import recovery
from livejobs.models import Job, State
from livejobs.owner import VISITOR
from livejobs.snapshot import Snapshot
from livejobs.tests.test_layer import (
    known_to_each_other,
    open_hub,
    quick,
    snapshot,
    until,
    until_refreshed,
    until_shown,
)
from livejobs.threads import in_thread

__all__ = ["quick"]  # a fixture


@pytest.fixture
async def redis_layer(quick, redis_url):
    """Makes channel layers, each as if in a process of its own."""
    made = []

    def make(deployment="celeryprogressbar", **options):
        hosts = [{"address": redis_url, "socket_timeout": None}]
        made.append(RedisChannelLayer(hosts=hosts, prefix=f"{deployment}:", **options))
        return made[-1]

    yield make
    for layer in made:
        await layer.flush()
    channel_layers.backends.clear()


async def test_a_part_that_the_layer_cannot_write_holds_up_no_other(redis_layer):
    async with open_hub(redis_layer()) as (here, _), open_hub(redis_layer()) as (there, watcher):
        await known_to_each_other(here, there)
        refreshed = watcher.refreshed
        here.publish([snapshot(1), snapshot(1, task_id="\ud800"), snapshot(2, state="RETRY")])
        await until_shown(watcher, snapshot(1), snapshot(2, state="RETRY"))
        await until_refreshed(watcher, refreshed)
        assert here.layer.ignored == {"part that cannot be sent": 1}


async def test_what_is_no_message_in_redis_holds_up_no_other(redis_layer):
    async with open_hub(redis_layer()) as (here, _), open_hub(redis_layer()) as (there, watcher):
        await known_to_each_other(here, there)
        layer = there.layer.channel_layer
        key = layer.prefix + layer.non_local_name(there.layer.channel)
        for garbage in (b"", b"12 random bytes and then no msgpack \xc1", b"\x00" * 12 + b"\x07"):
            await layer.connection(0).zadd(key, {garbage: time.time()})
        await until(lambda: sum(there.layer.ignored.values()) >= 3, "the garbage has been read")
        here.publish([snapshot(1)])
        await until_shown(watcher, snapshot(1))


def visitor(name):
    client = Client()
    client.get("/")
    session = client.session
    session[VISITOR] = name
    session.save()
    return client


@pytest.fixture
async def there(redis_layer, the_hub):
    """This process's hub, which sockets watch, over Redis."""
    await the_hub.close()
    channel_layers.set("default", redis_layer())
    await the_hub.open()
    return the_hub


def finish(jobs):
    for job in jobs:
        job.end(State.SUCCESS, result=1)
        job.save_end()
    return [Snapshot.of(job) for job in jobs]


async def test_no_end_is_lost_though_the_layer_drops_what_a_busy_process_does_not_read(
    redis_layer, there, socket, transactional_db, monkeypatch
):
    """300 messages while the other process reads none: the layer keeps the oldest 100, and drops the ends.

    The gap alone brings them back: the comparison with the rows, which would do so too after 2 s, is off. On a slow
    machine, a refresh that is due to an earlier message waits until then.
    """
    refresh, listens_again = recovery._refresh, asyncio.Event()

    async def refresh_later(watchers):
        await listens_again.wait()
        return await refresh(watchers)

    monkeypatch.setattr(recovery, "_refresh", refresh_later)
    monkeypatch.setattr(recovery, "newer_than", lambda told: [])
    owners = {f"visitor-{n}": await in_thread(visitor, f"visitor-{n}") for n in range(3)}
    jobs = [await Job.objects.acreate(owner=owner, kind="count_primes") for owner in owners for _ in range(8)]
    pages = [await socket(client=client) for client in owners.values()]
    pages += [await socket(f"/ws/task_status/{job.pk}/", client=owners[job.owner]) for job in jobs[::8]]
    async with open_hub(redis_layer()) as (here, _):
        await known_to_each_other(here, there)
        listening = there.layer.tasks[1]
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        for seq in range(300):
            here.layer.publish([snapshot(seq, owner="visitor-9")])
            await here.layer._send()
        here.publish(await in_thread(finish, jobs))
        await until(lambda: not here.layer.kept, "all is sent")
        assert not any(told.final for told in there.newest.values())
        listens_again.set()
        there.layer.tasks[1] = asyncio.create_task(there.layer._listen())
        for page in pages[3:]:
            await page.until(state="SUCCESS")
            assert await page.closed() == 1000
        for owner, page in zip(owners, pages, strict=False):
            unfinished = {str(job.pk) for job in jobs if job.owner == owner}
            while unfinished:
                unfinished.discard((await page.until(state="SUCCESS"))["task_id"])


async def test_deployments_on_one_redis_database_share_nothing(redis_layer, redis_url, settings):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "DEPLOYMENT": "shop"}
    async with open_hub(redis_layer("shop")) as (here, _):
        settings.LIVEJOBS = {**settings.LIVEJOBS, "DEPLOYMENT": "shop-2"}
        async with (
            open_hub(redis_layer("shop-2")) as (elsewhere, stranger),
            open_hub(redis_layer("shop-2")) as (_, watcher),
        ):
            await known_to_each_other(elsewhere, _)
            here.publish([snapshot(1)])
            here.everywhere("adopt", "visitor-1", "user-1")
            elsewhere.publish([snapshot(2, task_id="job-2")])
            await until_shown(watcher, snapshot(2, task_id="job-2"))
            assert watcher.shown == stranger.shown == [snapshot(2, task_id="job-2")]
            assert here.layer.senders == {}
            await redis_layer("shop").flush()  # not of `here`: a call in progress would connect its closed pool again
            elsewhere.publish([snapshot(3, task_id="job-2")])
            await until_shown(watcher, snapshot(3, task_id="job-2"))
