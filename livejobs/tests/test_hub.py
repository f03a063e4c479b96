"""The sockets of one process: who is shown what."""

import asyncio
import json
import os

import pytest

from livejobs import hub as hub_module
from livejobs import lifespan
from livejobs.hub import Hub
from livejobs.snapshot import Snapshot


class Watcher:
    def __init__(self):
        self.shown = []

    def show(self, snapshot):
        self.shown.append(snapshot)


def snapshot(seq, task_id="job-1", owner="visitor-1", state="PROGRESS", final=False) -> Snapshot:
    return Snapshot(owner, task_id, state, seq, final, f"{task_id} {state} {seq}")


@pytest.fixture
def watching(the_hub):
    def watch(room):
        watcher = Watcher()
        the_hub.join(room, watcher)
        return watcher

    return watch


async def test_a_snapshot_is_shown_to_its_owner_and_to_nobody_else(the_hub, watching):
    owner, job, another = watching("visitor-1"), watching("job-1"), watching("visitor-2")
    the_hub.publish([snapshot(1)])
    assert owner.shown == job.shown == [snapshot(1)]
    assert another.shown == []


async def test_who_has_left_is_shown_nothing_and_is_forgotten(the_hub, watching):
    watcher = watching("visitor-1")
    the_hub.leave("visitor-1", watcher)
    the_hub.leave("visitor-1", watcher)
    the_hub.publish([snapshot(1)])
    assert watcher.shown == []
    assert the_hub.rooms == {}


async def test_an_older_or_repeated_snapshot_is_not_shown(the_hub, watching):
    watcher = watching("visitor-1")
    the_hub.publish([snapshot(2), snapshot(1), snapshot(2), snapshot(3)])
    assert watcher.shown == [snapshot(2), snapshot(3)]


async def test_nothing_is_shown_after_the_end(the_hub, watching):
    watcher = watching("visitor-1")
    end = snapshot(5, state="SUCCESS", final=True)
    the_hub.publish([snapshot(9), end, snapshot(10), end])
    assert watcher.shown == [snapshot(9), end]


async def test_an_end_that_has_lost_its_file_replaces_the_one_that_had_it(the_hub):
    end, without_file = (snapshot(seq, state="SUCCESS", final=True) for seq in (5, 6))
    the_hub.publish([end])
    assert the_hub.latest(without_file) == without_file
    assert the_hub.latest(end) == without_file


async def test_the_latest_is_what_has_been_shown_or_the_row_where_that_is_newer(the_hub):
    the_hub.publish([snapshot(5)])
    assert the_hub.latest(snapshot(4)) == snapshot(5)
    assert the_hub.latest(snapshot(6)) == snapshot(6)


async def test_what_a_newcomer_has_read_is_not_undone_by_an_older_snapshot(the_hub, watching):
    watcher = watching("visitor-1")
    read = snapshot(7, state="SUCCESS", final=True)
    the_hub.latest(read)
    the_hub.publish([snapshot(6)])
    assert watcher.shown == [read]


async def test_what_a_newcomer_has_read_before_it_was_published_is_shown_to_all(the_hub, watching):
    watcher = watching("visitor-1")
    the_hub.latest(snapshot(1))
    the_hub.publish([snapshot(1)])
    assert watcher.shown == [snapshot(1)]


async def test_a_hub_remembers_a_bounded_number_of_jobs(the_hub, monkeypatch):
    monkeypatch.setattr(hub_module, "REMEMBERED_JOBS", 3)
    the_hub.publish([snapshot(1, task_id=f"job-{n}") for n in range(9)])
    assert list(the_hub.newest) == ["job-6", "job-7", "job-8"]


async def test_a_hub_remembers_a_bounded_number_of_characters(the_hub, monkeypatch):
    length = len(snapshot(1).text)
    monkeypatch.setattr(hub_module, "REMEMBERED_CHARACTERS", 2 * length)
    the_hub.publish([snapshot(seq, task_id=f"job-{n}") for seq in (1, 2) for n in range(5)])
    assert list(the_hub.newest) == ["job-3", "job-4"]
    assert the_hub.remembered == 2 * length


async def test_a_watcher_that_fails_costs_the_others_nothing(the_hub, watching, caplog):
    class Broken(Watcher):
        def show(self, snapshot):
            raise RuntimeError("broken")

    good = [watching("visitor-1"), watching("job-1")]
    the_hub.join("visitor-1", Broken())
    the_hub.publish([snapshot(1), snapshot(2)])
    assert [watcher.shown for watcher in good] == [[snapshot(1), snapshot(2)]] * 2
    assert "could not be shown" in caplog.text


async def test_a_deleted_job_is_told_to_all_its_watchers_and_never_shown_again(the_hub, watching):
    owner, job, another = watching("visitor-1"), watching("job-1"), watching("visitor-2")
    the_hub.publish([snapshot(1)])
    the_hub.gone("visitor-1", "job-1")
    the_hub.publish([snapshot(2), snapshot(10**9, state="SUCCESS", final=True)])
    assert owner.shown == job.shown == [snapshot(1), Snapshot.gone("visitor-1", "job-1")]
    assert json.loads(owner.shown[-1].text) == {"type": "gone", "task_id": "job-1"}
    assert another.shown == []
    assert the_hub.latest(snapshot(3)) == Snapshot.gone("visitor-1", "job-1")


async def test_what_is_known_of_a_visitors_jobs_becomes_the_users(the_hub, watching):
    the_hub.publish([snapshot(1), snapshot(1, task_id="job-2", owner="visitor-2")])
    user = watching("user-1")
    the_hub.adopt("visitor-1", "user-1")
    assert [known.owner for known in the_hub.newest.values()] == ["user-1", "visitor-2"]
    the_hub.publish([snapshot(2, owner="user-1")])
    assert user.shown == [snapshot(2, owner="user-1")]


async def test_an_unknown_call_is_refused_and_one_that_fails_here_is_made_elsewhere(the_hub, monkeypatch, caplog):
    def fail(visitor, owner):
        raise RuntimeError("broken")

    monkeypatch.setattr(the_hub, "on_adopted", fail)
    with pytest.raises(KeyError):
        the_hub.everywhere("close")
    the_hub.everywhere("adopt", "visitor-1", "user-1")
    assert list(the_hub.layer.kept_calls) == [("adopt", ("visitor-1", "user-1"))]
    assert "adopt has failed" in caplog.text


class Arrival(Watcher):
    def __init__(self):
        super().__init__()
        self.arrived = asyncio.Event()

    def show(self, snapshot):
        super().show(snapshot)
        self.arrived.set()


async def test_other_threads_publish_without_waiting(the_hub):
    there = Arrival()
    the_hub.join("visitor-1", there)
    assert await asyncio.to_thread(the_hub.soon, the_hub.publish, [snapshot(1)])
    assert await asyncio.to_thread(the_hub.soon, the_hub.gone, "visitor-1", "job-1")
    async with asyncio.timeout(30):
        while len(there.shown) < 2:
            await there.arrived.wait()
            there.arrived.clear()
    assert there.shown == [snapshot(1), Snapshot.gone("visitor-1", "job-1")]


def test_a_hub_that_is_not_open_here_publishes_nothing_and_says_so():
    hub = Hub()

    async def open_hub(close):
        await hub.open()
        assert hub.is_open
        if close:
            await hub.close()
            assert not hub.is_open

    assert not hub.soon(hub.publish, [snapshot(1)])
    for close in (True, False):
        asyncio.run(open_hub(close))  # the loop is closed then
        assert not hub.is_open
        assert not hub.soon(hub.publish, [snapshot(1)])
        assert not hub.soon(hub.gone, "visitor-1", "job-1")


async def test_a_relay_keeps_its_replies_while_its_process_closes(the_hub):
    publish = lifespan._publish_to(asyncio.get_running_loop())
    await asyncio.to_thread(publish, [snapshot(1)])
    await the_hub.close()
    with pytest.raises(ConnectionError):
        await asyncio.to_thread(publish, [snapshot(2)])
    await the_hub.open()
    assert the_hub.latest(snapshot(1)) == snapshot(1)


async def test_a_process_whose_hub_cannot_open_says_so_each_time_and_relays_nothing(monkeypatch):
    class Relay:
        started = []

        def __init__(self, publish, told):
            self.adopt = None

        def start(self):
            self.started.append(self)

    async def answer(scope, receive, send):
        await send("answered")

    async def send(message):
        sent.append(message)

    async def open_hub():
        if problems:
            raise problems.pop()

    sent, problems = [], [ValueError("a URL that is none"), ValueError("a URL that is none")]
    monkeypatch.setattr(lifespan, "Relay", Relay)
    monkeypatch.setattr(lifespan.hub, "open", open_hub)
    application = lifespan.RelayMiddleware(answer)
    for _ in range(2):
        with pytest.raises(ValueError, match="a URL that is none"):
            await application({"type": "http"}, None, send)
    assert Relay.started == sent == []
    for _ in range(2):
        await application({"type": "http"}, None, send)
    assert len(Relay.started) == 1
    assert sent == ["answered"] * 2


async def test_a_forked_process_has_no_open_hub(the_hub, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: the_hub.process + 1)  # as in a child
    assert not the_hub.is_open
    assert not the_hub.soon(the_hub.publish, [snapshot(1)])
