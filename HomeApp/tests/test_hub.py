import asyncio

import pytest

from HomeApp import hub as hub_module
from HomeApp.hub import Hub
from HomeApp.snapshot import Snapshot


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


@pytest.fixture
async def other_hub(the_hub):
    """The hub of another web process, as far as the channel layer can tell."""
    other = Hub()
    await other.open()
    yield other
    await other.close()


class Arrival(Watcher):
    def __init__(self, count):
        super().__init__()
        self.count, self.complete = count, asyncio.Event()

    def show(self, snapshot):
        super().show(snapshot)
        if len(self.shown) >= self.count:
            self.complete.set()


async def test_other_processes_are_told_too_and_each_watcher_once(the_hub, other_hub, watching):
    here, there = watching("visitor-1"), Arrival(2)
    other_hub.join("visitor-1", there)
    await asyncio.sleep(0)  # lets both hubs enter the group
    the_hub.publish([snapshot(1, state="STARTED")])
    the_hub.publish([snapshot(2)])
    async with asyncio.timeout(5):
        await there.complete.wait()
    assert here.shown == there.shown == [snapshot(1, state="STARTED"), snapshot(2)]


async def test_what_a_channel_layer_misses_while_it_is_away_is_made_good_afterwards(
    the_hub, other_hub, watching, monkeypatch, caplog
):
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.01)
    group_send, failed = the_hub.layer.group_send, asyncio.Event()

    async def refuse(group, message):
        failed.set()
        raise ConnectionError("gone")

    monkeypatch.setattr(the_hub.layer, "group_send", refuse)
    here, there = watching("visitor-1"), Arrival(2)
    other_hub.join("visitor-1", there)
    the_hub.publish([snapshot(1, state="STARTED"), snapshot(2)])
    the_hub.publish([snapshot(3)])
    assert [shown.seq for shown in here.shown] == [1, 2, 3]
    async with asyncio.timeout(5):
        await failed.wait()
        the_hub.publish([snapshot(4)])
        monkeypatch.setattr(the_hub.layer, "group_send", group_send)
        await there.complete.wait()
    assert [shown.seq for shown in there.shown] == [1, 4]
    assert "cannot be told" in caplog.text


async def test_a_hub_that_fell_out_of_the_group_enters_it_again(the_hub, monkeypatch):
    monkeypatch.setattr(hub_module, "REJOIN_SECONDS", 0.01)
    other = Hub()
    await other.open()
    await asyncio.sleep(0)  # lets it enter the group
    assert other.channel in the_hub.layer.groups[hub_module.GROUP]
    the_hub.layer.groups.clear()
    there = Arrival(1)
    other.join("visitor-1", there)
    seq = 0
    async with asyncio.timeout(5):
        while not there.shown:
            the_hub.publish([snapshot(seq := seq + 1)])
            await asyncio.wait([asyncio.ensure_future(there.complete.wait())], timeout=0.01)
    await other.close()
