"""SIGTERM in a child of the pool: it waits for an attempt with a checkpoint, and for nothing else."""

import os
import signal

import pytest

from livejobs import leave, stop
from testkit.processes import wait_until


@pytest.fixture
def ended(monkeypatch):
    """Notes when the process would end; SIGTERM and SIGALRM are the test's own meanwhile."""
    ended = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    monkeypatch.setattr(leave, "leaving", leave.Leaving())
    monkeypatch.setattr(stop, "parent", os.getppid())
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    yield ended
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_waits_for_the_item_in_hand(ended):
    asked = []
    leave.listen(lambda: asked.append("soon"))
    terminate()
    assert (asked, ended, leave.leaving.asked) == (["soon"], [], True)
    leave.now()
    assert ended == [signal.SIGTERM]


def test_it_waits_no_longer_than_its_patience(ended, monkeypatch):
    monkeypatch.setattr(leave, "PATIENCE", 0.01)
    leave.listen(lambda: None)
    terminate()
    wait_until(lambda: ended, "the alarm ends it")
    assert ended == [signal.SIGTERM]


def test_a_second_signal_ends_it_at_once(ended):
    leave.listen(lambda: None)
    terminate()
    terminate()
    assert ended == [signal.SIGTERM]


def test_after_the_attempt_it_ends_at_once(ended):
    leave.listen(lambda: pytest.fail("the attempt has ended"))
    leave.forget()
    terminate()
    assert ended == [signal.SIGTERM]


def test_a_fork_of_it_ends_at_once(ended, monkeypatch):
    leave.listen(lambda: pytest.fail("it has no checkpoint"))
    leave.leaving.pid += 1
    terminate()
    assert ended == [signal.SIGTERM]


def test_outside_a_child_of_the_pool_nothing_changes(ended, monkeypatch):
    monkeypatch.setattr(stop, "parent", None)
    leave.listen(lambda: pytest.fail("this is no child"))
    terminate()
    assert ended == [signal.SIGTERM]
