"""What hubs of several processes tell each other, and what they do with what they cannot use."""

import asyncio
import contextlib
from collections import Counter

import pytest
from channels.layers import channel_layers

from livejobs import layer as layer_module
from livejobs.hub import Hub
from livejobs.layer import Layer
from livejobs.message import TYPE, VERSION, Message
from livejobs.snapshot import Snapshot
from testkit.processes import wait_until


def snapshot(seq, task_id="job-1", owner="visitor-1", state="PROGRESS", final=False) -> Snapshot:
    return Snapshot(owner, task_id, state, seq, final, f"{task_id} {state} {seq}")


class Watcher:
    """A socket, what it was shown, and how often it was refreshed and signed out."""

    session = ""

    def __init__(self):
        self.shown, self.refreshed, self.signed_out = [], 0, 0

    def show(self, snapshot):
        self.shown.append(snapshot)

    async def refresh(self):
        self.refreshed += 1

    async def sign_out(self):
        self.signed_out += 1


async def until(condition, what):
    """As `wait_until`, beside what else there is to do."""
    await asyncio.to_thread(wait_until, condition, what, 10)


async def until_refreshed(watcher, before=0):
    await until(lambda: watcher.refreshed > before, "the socket has read the rows again")


async def until_shown(watcher, *snapshots):
    await until(lambda: set(snapshots) <= set(watcher.shown), f"{snapshots} are shown")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Retries and heartbeats that a test need not wait for."""
    monkeypatch.setattr(layer_module, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(layer_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(layer_module, "RETRY_SOON", 0.01)
    monkeypatch.setattr(layer_module, "REJOIN_SECONDS", 0.05)
    monkeypatch.setattr("livejobs.recovery.REFRESH_SECONDS", 0.01)


@contextlib.asynccontextmanager
async def open_hub(channel_layer=None):
    """The hub of another process, as far as the channel layer can tell, and a watcher of "visitor-1" there."""
    if channel_layer:
        channel_layers.set("default", channel_layer)
    hub, watcher = Hub(), Watcher()
    await hub.open()
    hub.join("visitor-1", watcher)
    try:
        yield hub, watcher
    finally:
        await hub.close()


async def known_to_each_other(*hubs):
    """Wait until hubs have nothing to make good."""

    def calm() -> bool:
        return all(
            len(hub.layer.senders) == len(hubs) - 1 and not hub.layer.unsure and not hub.recovery.missed.is_set()
            for hub in hubs
        )

    await until(calm, "the hubs know each other")


@pytest.fixture
async def there(quick, the_hub):
    """Another process's hub and a watcher there, once both hubs know each other."""
    async with open_hub() as (hub, watcher):
        await known_to_each_other(the_hub, hub)
        yield hub, watcher


async def test_other_processes_are_told_too_and_each_watcher_once(the_hub, there):
    here, (_, watcher) = Watcher(), there
    the_hub.join("visitor-1", here)
    the_hub.publish([snapshot(1, state="STARTED")])
    the_hub.publish([snapshot(2)])
    await until_shown(watcher, snapshot(2))
    assert here.shown == watcher.shown == [snapshot(1, state="STARTED"), snapshot(2)]


async def test_a_deletion_and_a_log_out_are_told_to_other_processes(the_hub, there):
    _, watcher = there
    watcher.session = "digest"
    the_hub.gone("visitor-1", "job-1")
    the_hub.everywhere("end_session", "digest")
    await until(lambda: watcher.shown and watcher.signed_out, "both are told")
    assert watcher.shown == [Snapshot.gone("visitor-1", "job-1")]


GOOD = {"type": TYPE, "version": VERSION, "from": "another", "number": 1, "snapshots": [], "calls": []}
#: Messages that no hub of this version sends, and what they are counted as.
POISONED = [
    ({"type": TYPE, "from": "old", "snapshots": [list(snapshot(8))], "calls": []}, "message of another version"),
    ({**GOOD, "version": VERSION + 1, "snapshots": {"shape": "unknown"}}, "message of another version"),
    ({}, "message of another version"),
    ({**GOOD, "from": None}, "malformed message"),
    ({**GOOD, "from": ["unhashable"]}, "malformed message"),
    ({**GOOD, "number": "1"}, "malformed message"),
    ({**GOOD, "snapshots": None}, "malformed message"),
    ({**GOOD, "calls": {}}, "malformed message"),
    ({**GOOD, "snapshots": [7]}, "malformed snapshot"),
    ({**GOOD, "snapshots": [["too", "few"]]}, "malformed snapshot"),
    ({**GOOD, "snapshots": [[{}, "job-1", "PROGRESS", 1, False, "unhashable"]]}, "malformed snapshot"),
    ({**GOOD, "snapshots": [["visitor-1", "job-1", "PROGRESS", "8", False, "seq is text"]]}, "malformed snapshot"),
    ({**GOOD, "snapshots": [["visitor-1", "job-1", "PROGRESS", 8, False, None]]}, "malformed snapshot"),
    ({**GOOD, "calls": [None]}, "malformed call"),
    ({**GOOD, "calls": [["adopt"]]}, "malformed call"),
    ({**GOOD, "calls": [["adopt", [1, {}]]]}, "malformed call"),
    ({**GOOD, "calls": [[["adopt"], ["visitor-1", "user-1"]]]}, "malformed call"),
    ({**GOOD, "calls": [["close", []]]}, "unknown call"),
    ({**GOOD, "calls": [["__init__", []]]}, "unknown call"),
]


@pytest.mark.parametrize(("message", "sort"), POISONED)
async def test_what_cannot_be_used_is_counted_and_the_next_message_is_taken(the_hub, there, caplog, message, sort):
    hub, watcher = there
    for _ in range(2):
        await the_hub.layer.channel_layer.group_send(the_hub.layer.group, message)
    the_hub.publish([snapshot(1)])
    await until_shown(watcher, snapshot(1))
    assert hub.layer.ignored == {sort: 2}
    assert caplog.text.count(f"from now on: {sort}") == 2  # once by each hub
    await until_refreshed(watcher)  # it may have been news


@pytest.mark.parametrize("message", [None, 7, "text", ["list"], {1: 2}])
def test_what_is_no_message_at_all_is_ignored(message):
    layer = Layer(lambda snapshots: None, {}, lambda: None)
    layer.take(message)
    assert layer.ignored == {"message of another version": 1}


async def test_the_good_parts_of_a_message_are_taken(the_hub, there, monkeypatch, caplog):
    hub, watcher = there
    adopted = []

    def adopt(visitor, owner):
        if owner == "user-1":
            raise RuntimeError("broken")
        adopted.append(owner)

    monkeypatch.setattr(hub, "on_adopted", adopt)
    parts = {
        "snapshots": [list(snapshot(1)), [None], list(snapshot(2))],
        "calls": [["adopt", ["visitor-9"]], ["unknown", []], *(["adopt", ["visitor-9", f"user-{n}"]] for n in (1, 2))],
    }
    await the_hub.layer.channel_layer.group_send(the_hub.layer.group, {**GOOD, **parts})
    await until_shown(watcher, snapshot(1), snapshot(2))
    assert adopted == ["user-2"]
    assert hub.layer.ignored == {"malformed snapshot": 1, "unknown call": 1}
    assert caplog.text.count("A call of another web process has failed") >= 2  # too few arguments; broken


def numbered(*numbers, sender="another"):
    return [Message(sender, number, [], []).as_dict() for number in numbers]


@pytest.mark.parametrize(
    ("messages", "gaps"),
    [
        (numbered(1, 2, 3), 0),
        (numbered(7, 8), 1),  # who knows what came before
        (numbered(1, 3, 4), 1),
        (numbered(1, 2, 2), 1),
        (numbered(1, 2, 1, 2), 1),
        (numbered(1, 2) + numbered(1, 2, sender="third"), 0),
    ],
)
def test_a_number_that_does_not_follow_the_last_one_is_a_gap(messages, gaps):
    missed = []
    layer = Layer(lambda snapshots: None, {}, lambda: missed.append(1))
    for message in messages:
        layer.take(message)
    assert len(missed) == gaps


def test_a_hubs_own_messages_are_no_news():
    shown = []
    layer = Layer(shown.extend, {}, lambda: shown.append("a gap"))
    layer.take(Message(layer.sender, 7, [snapshot(1)], []).as_dict())
    assert shown == []


async def test_a_last_message_that_was_dropped_is_noticed_by_the_next_heartbeat(the_hub, there, monkeypatch):
    _, watcher = there
    group_send, dropped = the_hub.layer.channel_layer.group_send, []

    async def drop(group, message):
        if message["snapshots"]:
            dropped.append(message)
        else:
            await group_send(group, message)

    monkeypatch.setattr(the_hub.layer.channel_layer, "group_send", drop)
    refreshed = watcher.refreshed
    the_hub.publish([snapshot(1)])
    await until_refreshed(watcher, refreshed)
    assert dropped
    assert watcher.shown == []


async def test_a_hub_that_is_no_longer_heard_may_have_said_something_last(the_hub, there, monkeypatch):
    hub, watcher = there
    monkeypatch.setattr(layer_module, "SILENCE_SECONDS", 0.3)
    refreshed = watcher.refreshed
    for task in the_hub.layer.tasks:
        task.cancel()
    await until_refreshed(watcher, refreshed)
    assert hub.layer.senders == {}


async def test_a_connection_on_which_nothing_arrives_is_given_up(quick, the_hub, monkeypatch, caplog):
    monkeypatch.setattr(layer_module, "SILENCE_SECONDS", 0.2)
    async with open_hub() as (hub, watcher):
        never, receive, calls = asyncio.Event(), hub.layer.channel_layer.receive, Counter()

        async def hang(channel):
            calls[channel] += 1
            if channel == hub.layer.channel and calls[channel] == 1:
                await never.wait()
            return await receive(channel)

        monkeypatch.setattr(hub.layer.channel_layer, "receive", hang)
        hub.layer.tasks[1].cancel()
        hub.layer.tasks[1] = asyncio.create_task(hub.layer._listen())
        await until_refreshed(watcher)
        the_hub.publish([snapshot(1)])
        await until_shown(watcher, snapshot(1))
    assert "cannot be reached" in caplog.text


async def test_a_message_that_cannot_even_be_received_holds_up_no_other(the_hub, there, monkeypatch):
    hub, watcher = there
    receive, bad = hub.layer.channel_layer.receive, [ValueError("no message"), ValueError("no message")]

    async def fail(channel):
        message = await receive(channel)
        if channel == hub.layer.channel and bad:
            raise bad.pop()
        return message

    monkeypatch.setattr(hub.layer.channel_layer, "receive", fail)
    await asyncio.sleep(0)
    refreshed = watcher.refreshed
    await until_refreshed(watcher, refreshed)
    await until(lambda: not bad, "both bad messages have come")
    the_hub.publish([snapshot(1)])
    await until_shown(watcher, snapshot(1))
    assert hub.layer.ignored == {"unreadable message": 2}


async def test_an_entry_into_the_group_that_fails_is_tried_again_and_then_all_is_read(
    quick, the_hub, monkeypatch, caplog
):
    group_add, failures = the_hub.layer.channel_layer.group_add, [ConnectionError("away")] * 3

    async def fail(group, channel):
        if failures:
            raise failures.pop()
        await group_add(group, channel)

    monkeypatch.setattr(the_hub.layer.channel_layer, "group_add", fail)
    async with open_hub() as (_, watcher):
        await until_refreshed(watcher)
        the_hub.publish([snapshot(1)])
        await until_shown(watcher, snapshot(1))
    assert failures == []
    assert caplog.text.count("cannot be reached") <= 2  # once for each hub, not for each try
    assert "reached again" in caplog.text


async def test_a_hub_that_fell_out_of_the_group_enters_it_again(the_hub, there):
    hub, watcher = there
    groups = the_hub.layer.channel_layer.groups
    groups.clear()
    await until(lambda: hub.layer.channel in groups.get(hub.layer.group, {}), "it is in the group again")
    the_hub.publish([snapshot(1)])
    await until_shown(watcher, snapshot(1))


@pytest.fixture
async def outage(the_hub, there, monkeypatch):
    """Nothing can be sent until this is called."""
    group_send, failed = the_hub.layer.channel_layer.group_send, asyncio.Event()

    async def refuse(group, message):
        if message["from"] == the_hub.layer.sender:
            failed.set()
            raise ConnectionError("away")
        await group_send(group, message)

    monkeypatch.setattr(the_hub.layer.channel_layer, "group_send", refuse)
    async with asyncio.timeout(30):
        await failed.wait()
    return lambda: monkeypatch.setattr(the_hub.layer.channel_layer, "group_send", group_send)


async def test_what_is_published_while_the_layer_is_away_is_sent_afterwards_the_newest_only(
    the_hub, there, outage, caplog
):
    _, watcher = there
    here = Watcher()
    the_hub.join("visitor-1", here)
    the_hub.publish([snapshot(1, state="STARTED"), snapshot(2)])
    the_hub.publish([snapshot(3)])
    await asyncio.sleep(0.05)
    the_hub.publish([snapshot(4)])
    assert [shown.seq for shown in here.shown] == [1, 2, 3, 4]
    outage()
    await until_shown(watcher, snapshot(4))
    assert [shown.seq for shown in watcher.shown] == [1, 4]
    assert "cannot be reached" not in caplog.text  # it was said when the outage began


async def test_calls_are_kept_while_the_layer_is_away_and_made_once_in_their_order(the_hub, there, outage, monkeypatch):
    hub, watcher = there
    adopted = []
    monkeypatch.setattr(hub, "on_adopted", lambda visitor, owner: adopted.append(owner))
    for n in (1, 2, 1, 3):
        the_hub.everywhere("adopt", "visitor-9", f"user-{n}")
        await asyncio.sleep(0.02)  # so that some of them have been tried before the others come
    outage()
    the_hub.publish([snapshot(1)])
    await until_shown(watcher, snapshot(1))
    assert adopted == ["user-1", "user-2", "user-3"]


async def test_what_is_too_much_to_be_kept_is_missed_by_nobody(the_hub, there, outage, monkeypatch, caplog):
    hub, watcher = there
    monkeypatch.setattr(layer_module, "KEPT_CALLS", 3)
    monkeypatch.setattr(layer_module, "KEPT_SNAPSHOTS", 2)
    adopted = []
    monkeypatch.setattr(hub, "on_adopted", lambda visitor, owner: adopted.append(owner))
    for n in range(5):
        the_hub.everywhere("adopt", "visitor-9", f"user-{n}")
        the_hub.publish([snapshot(n, task_id=f"job-{n}")])
        await asyncio.sleep(0.02)
    refreshed = watcher.refreshed
    outage()
    await until(lambda: len(watcher.shown) == 2, "what was kept is shown")
    await until_refreshed(watcher, refreshed)
    assert [shown.task_id for shown in watcher.shown] == ["job-3", "job-4"]
    assert adopted == ["user-2", "user-3", "user-4"]
    assert the_hub.layer.ignored == {"part that was kept for too long": 5}
    assert "part that was kept for too long" in caplog.text


async def test_what_is_kept_is_sent_before_a_hub_closes(the_hub, there):
    _, watcher = there
    async with open_hub() as (leaving, _):
        await known_to_each_other(the_hub, leaving, there[0])
        leaving.publish([snapshot(1)])
    await until_shown(watcher, snapshot(1))
    assert leaving.layer.channel not in the_hub.layer.channel_layer.groups[the_hub.layer.group]
