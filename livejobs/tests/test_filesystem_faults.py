"""The broker in a folder, and files in it that are no messages: each is rejected, and all others are delivered."""

import json
import os

import pytest
from kombu import Exchange, Queue

from livejobs.tests.test_filesystem import QUEUE, broker, connect, messages_in, publish, take
from livejobs.under.filesystem import queues, rejected

__all__ = ["broker"]

WHOLE = {
    "body": "e30=",
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": {},
    "properties": {"body_encoding": "base64", "delivery_tag": "1", "delivery_info": {}, "priority": 0},
}


def without(*path):
    """A message that lacks one field."""
    message = json.loads(json.dumps(WHOLE))
    *outer, last = path
    part = message
    for name in outer:
        part = part[name]
    del part[last]
    return json.dumps(message)


def with_(**fields):
    return json.dumps({**WHOLE, **fields})


POISON = {
    "empty": "",
    "half": json.dumps(WHOLE)[:40],
    "not JSON": "not JSON",
    "not UTF-8": b"\xff\xfe{}",
    "NUL": b"\0" * 100,
    "too deep": "[" * 100_000,
    "too long a number": f'{{"properties": {"1" * 10_000}}}',
    "null": "null",
    "list": "[]",
    "text": '"text"',
    "no properties": without("properties"),
    "no headers": without("headers"),
    "no delivery_info": without("properties", "delivery_info"),
    "properties are a list": with_(properties=[]),
    "headers are null": with_(headers=None),
    "headers are a list": with_(headers=["id"]),
    "body is a number": with_(body=5),
    "body is not base64": with_(body="e"),
    "unknown encoding": with_(properties={**WHOLE["properties"], "body_encoding": "rot13"}),
    "unknown type": with_(headers={"__type__": "unknown", "__value__": 1}),
    "wrong type": with_(headers={"__type__": "decimal", "__value__": "one"}),
}


def queue_of(folder, queue=QUEUE.name):
    path = folder / f"{queue}.queue"
    path.mkdir(exist_ok=True)
    return path


def logged(caplog, *words) -> list:
    return [record for record in caplog.records if all(word in record.getMessage() for word in words)]


def test_the_whole_message_is_one(tmp_path, broker):
    (queue_of(tmp_path) / "1-0-a.msg").write_text(json.dumps(WHOLE))
    assert QUEUE(broker.default_channel).get().payload == {}


def assert_rejected_once(tmp_path, broker, caplog, name):
    publish(broker, 1)
    caplog.clear()
    assert [take(broker) for _ in range(3)] == [[0, 1], [], []]
    assert [path.name.partition("-")[2] for path in (tmp_path / "rejected").iterdir()] == [name]
    assert len(logged(caplog, "Rejected", name)) == 1


@pytest.mark.parametrize("content", POISON.values(), ids=POISON)
def test_a_file_that_is_no_message_is_rejected_once_and_all_others_are_delivered(tmp_path, broker, caplog, content):
    publish(broker, 0)
    path = queue_of(tmp_path) / "1-0-poison.msg"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_rejected_once(tmp_path, broker, caplog, path.name)


@pytest.mark.parametrize("name", ["poison.msg", "1-2.msg", "1-x-a.msg", "1-0-a-b.msg", "---.msg", ".msg"])
def test_a_file_whose_name_is_no_messages_is_rejected(tmp_path, broker, caplog, name):
    publish(broker, 0)
    (queue_of(tmp_path) / name).write_text(json.dumps(WHOLE))
    assert_rejected_once(tmp_path, broker, caplog, name)


def make_folder(path):
    path.mkdir()
    (path / "inside").write_text("")


@pytest.mark.parametrize(
    "make",
    [make_folder, os.mkfifo, lambda path: path.symlink_to("nothing"), lambda path: path.symlink_to("/")],
    ids=["folder", "named pipe", "link to nothing", "link to a folder"],
)
@pytest.mark.parametrize("name", ["1-0-poison.msg", "1-1-expired.msg"])
def test_what_is_no_file_is_rejected(tmp_path, broker, caplog, make, name):
    publish(broker, 0)
    make(queue_of(tmp_path) / name)
    if name == "1-1-expired.msg" and make is not make_folder:
        assert take(broker) == [0]  # it is deleted as any other that has expired
        assert not list(queue_of(tmp_path).iterdir())
    else:
        assert_rejected_once(tmp_path, broker, caplog, name)


def test_other_files_in_the_folder_are_left_alone(tmp_path, broker, caplog):
    (queue_of(tmp_path) / "README").write_text("")
    publish(broker, 0)
    assert take(broker) == [0]
    assert not logged(caplog, "Rejected")
    assert (queue_of(tmp_path) / "README").exists()


def test_only_the_newest_rejected_files_are_kept(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(rejected, "KEPT", 3)
    for number in range(7):
        path = queue_of(tmp_path) / f"{number}-0-a.msg"
        make_folder(path) if number % 2 else path.write_text("")
    publish(broker, 0)
    assert take(broker) == [0]
    kept = sorted(path.name.partition("-")[2] for path in (tmp_path / "rejected").iterdir())
    assert kept == ["4-0-a.msg", "5-0-a.msg", "6-0-a.msg"]


def test_a_file_that_vanishes_before_it_is_taken_is_no_message(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(queues, "LISTED_FOR", 3600)
    publish(broker, 0, 1, 2)
    queue = QUEUE(broker.default_channel)
    assert queue.get(no_ack=True).payload["number"] == 0  # all three are listed now
    min(queue_of(tmp_path).iterdir()).unlink()
    assert take(broker) == [2]


def test_a_file_that_can_neither_be_taken_nor_rejected_is_noted_once(tmp_path, broker, monkeypatch, caplog):
    rename = os.rename

    def refuse(source, target):
        if "poison" in str(source):
            raise PermissionError(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    (queue_of(tmp_path) / "1-0-poison.msg").write_text(json.dumps(WHOLE))
    for number in range(3):
        publish(broker, number)
        assert take(broker) == [number]
    assert len(logged(caplog, "Rejected", "poison")) == 1


def test_a_queue_with_poison_can_be_purged_and_deleted(tmp_path, broker):
    channel = broker.default_channel
    queue = Queue("numbers", Exchange("all", type="fanout"))(channel)
    queue.declare()
    publish(broker, 0, 1)
    make_folder(queue_of(tmp_path) / "1-0-poison.msg")
    (queue_of(tmp_path) / "2-0-poison.msg").write_text("")
    assert queue.purge() == 3
    queue.delete()
    assert not (tmp_path / "numbers.queue").exists()
    assert channel.get_table("all") == []


def test_what_is_no_binding_stops_no_broadcast(tmp_path, broker):
    exchange = Exchange("all", type="fanout")
    Queue("numbers", exchange)(broker.default_channel).declare()
    (tmp_path / "all.bindings" / "what is that").write_text("")
    broker.Producer().publish({"number": 1}, exchange=exchange, declare=[exchange])
    assert take(broker) == [1]


@pytest.mark.parametrize(
    ("kind", "bound", "matches", "differs"), [("direct", "a.b", "a.b", "a.c"), ("topic", "a,.*", "a,.b", "b.a")]
)
def test_a_message_goes_where_the_bindings_say(tmp_path, broker, kind, bound, matches, differs):
    exchange = Exchange(f"{kind}-rules", type=kind)
    Queue("numbers", exchange, routing_key=bound)(broker.default_channel).declare()
    with connect(tmp_path) as other:
        for number, key in enumerate((matches, differs)):
            other.Producer().publish({"number": number}, exchange=exchange, routing_key=key, declare=[exchange])
    assert take(broker) == [0]
    assert not messages_in(tmp_path)
