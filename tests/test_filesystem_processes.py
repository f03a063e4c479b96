"""The broker in a folder when processes die: their messages are put back, and their bindings are removed."""

import os
import signal
import subprocess
import sys

import pytest
from kombu import Exchange, Queue

from livejobs.tests.test_filesystem import QUEUE, broker, options, publish, take
from livejobs.tests.test_filesystem_faults import logged
from livejobs.under import filesystem
from testkit.processes import ROOT, wait_until

__all__ = ["broker"]

PROCESS = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from kombu import Connection, Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES
TRANSPORT_ALIASES["filesystem"] = "livejobs.under.filesystem:Transport"
connection = Connection("filesystem://localhost//", transport_options=eval(sys.argv[2]))
channel = connection.default_channel
exec(sys.argv[3])
print("ready", flush=True)
time.sleep(3600)
"""
TAKE_FIVE = """
for queue, count in ("numbers", 3), ("replies", 2):
    for _ in range(count):
        Queue(queue)(channel).get()
"""
BIND = """
Queue(sys.argv[4], Exchange("all", type="fanout"), auto_delete=True)(channel).declare()
"""
FORK = """
if os.fork() == 0:
    os.setsid()
    open(sys.argv[4], "w").write(str(os.getpid()))
    time.sleep(3600)
"""


@pytest.fixture
def process(tmp_path):
    """Starts processes that use the broker, each of which waits once it has run a piece of code; kills them."""
    processes = []

    def start(code, *arguments):
        command = [sys.executable, "-c", PROCESS, str(ROOT), repr(options(tmp_path)), code, *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "ready\n"
        return processes[-1]

    yield start
    for one in processes:
        kill(one)


def kill(process):
    process.kill()
    process.wait()
    process.stdout.close()


def processes_in(folder) -> list[str]:
    return [path.name.partition("-")[0] for path in (folder / "processes").iterdir()]


def test_what_a_dead_process_had_taken_is_put_back_at_its_old_place(tmp_path, broker, process):
    publish(broker, 0, 1, 2, 3)
    publish(broker, 5, 6, 7, queue="replies")
    taker = process(TAKE_FIVE)
    channel = broker.default_channel
    assert channel.restore_abandoned() == 0
    taker.send_signal(signal.SIGSTOP)
    assert channel.restore_abandoned() == 0
    assert (channel._size("numbers"), channel._size("replies")) == (1, 1)
    kill(taker)
    assert channel.restore_abandoned() == 5
    assert channel.restore_abandoned() == 0
    assert (take(broker), take(broker, "replies")) == ([0, 1, 2, 3], [5, 6, 7])
    assert processes_in(tmp_path) == [str(os.getpid())]


def test_what_is_put_back_comes_before_what_was_listed_already(broker, process):
    publish(broker, *range(5))
    publish(broker, 8, 9, queue="replies")
    taker = process(TAKE_FIVE)
    assert QUEUE(broker.default_channel).get(no_ack=True).payload["number"] == 3
    kill(taker)
    broker.default_channel.restore_abandoned()
    assert take(broker) == [0, 1, 2, 4]


def test_one_bad_item_of_a_dead_process_does_not_stop_the_others(tmp_path, broker, process, monkeypatch, caplog):
    publish(broker, 0, 1, 2)
    publish(broker, 8, 9, queue="replies")
    one = process(TAKE_FIVE)
    (folder,) = [path for path in tmp_path.glob("processes/*") if path.name.startswith(str(one.pid))]
    (folder / "numbers.queue" / "1-0-poison.msg").write_text("")
    (folder / "numbers.queue" / "2-0-stuck.msg").write_text("")
    (folder / "what is that").write_text("")
    (folder / "left.part").write_text("")
    publish(broker, 3)
    publish(broker, *range(3), queue="others")
    other = process('Queue("others")(channel).get()')
    move = filesystem.move

    def refuse(source, target):
        if "stuck" in source:
            raise FileExistsError(source)
        move(source, target)

    monkeypatch.setattr(filesystem, "move", refuse)
    kill(one)
    kill(other)
    assert broker.default_channel.restore_abandoned() == 5 + 1 + 1
    assert broker.default_channel.restore_abandoned() == 0
    assert (take(broker), take(broker, "others")) == ([0, 1, 2, 3], [0, 1, 2])
    assert processes_in(tmp_path) == [str(os.getpid())]
    names = {path.name.partition("-")[2] for path in (tmp_path / "rejected").iterdir()}
    assert names == {"1-0-poison.msg", "2-0-stuck.msg", folder.name}
    assert len(logged(caplog, "Rejected")) == 3


def test_a_child_does_not_keep_its_dead_parents_messages(tmp_path, broker, process):
    publish(broker, 0, 1, 2)
    publish(broker, 8, 9, queue="replies")
    pid = tmp_path / "pid"
    parent = process(TAKE_FIVE + FORK, pid)
    child = int(wait_until(lambda: pid.exists() and pid.read_text(), "there is a child"))
    try:
        assert broker.default_channel.restore_abandoned() == 0
        parent.kill()
        parent.wait()
        assert broker.default_channel.restore_abandoned() == 5
    finally:
        os.kill(child, signal.SIGKILL)


def test_bindings_and_queues_of_dead_processes_are_removed(tmp_path, broker, process):
    channel = broker.default_channel
    exchange = Exchange("all", type="fanout")
    dead, living = process(BIND, "worker@one"), process(BIND, "worker@two")
    Queue("lasting", exchange)(channel).declare()

    def broadcast(number):
        broker.Producer().publish({"number": number}, exchange=exchange, declare=[exchange])

    broadcast(1)
    kill(dead)
    again = process(BIND, "worker@one")
    kill(living)
    channel.restore_abandoned()
    broadcast(2)
    assert {row.queue for row in channel.get_table("all")} == {"lasting", "worker@one"}
    assert not (tmp_path / "worker@two.queue").exists()
    assert (take(broker, "worker@one"), take(broker, "lasting")) == ([1, 2], [1, 2])
    kill(again)
    channel.restore_abandoned()
    broadcast(3)
    assert len(list((tmp_path / "all.bindings").iterdir())) == 1
    assert {path.name for path in tmp_path.glob("*.queue")} == {"lasting.queue"}


def test_a_queue_that_is_bound_twice_gets_one_copy(broker, process):
    process(BIND, "shared")
    process(BIND, "shared")
    exchange = Exchange("all", type="fanout")
    broker.Producer().publish({"number": 1}, exchange=exchange, declare=[exchange])
    assert take(broker, "shared") == [1]
