"""A worker's shutdown by a signal waits for a moment at which the event loop rests."""

import os
import select
import signal
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest
from kombu.utils.eventio import poll

from livejobs.under import shutdown
from livejobs.under.shutdown import AtRest, Waiting

SIGNAL = signal.SIGUSR2


@pytest.fixture
def handled():
    """The seconds at which Celery's handler was called, since the signal was handled by `AtRest`."""
    calls = []
    before = signal.getsignal(SIGNAL), signal.getsignal(signal.SIGALRM)
    signal.signal(SIGNAL, AtRest(lambda number, frame: calls.append(number)))
    yield calls
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(SIGNAL, before[0])
    signal.signal(signal.SIGALRM, before[1])


def loop_until(condition):
    """Rest as Celery's event loop does, until a condition holds."""
    poller, (reader, writer) = poll(), os.pipe()
    poller.register(reader, select.EPOLLIN)
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        poller.poll(0.1)
    os.close(reader)
    os.close(writer)


def test_the_handler_waits_until_a_frame_is_written_and_is_called_from_the_poll(handled):
    lock = threading.Lock()
    with lock:  # that of py-amqp, for which the handler would wait for ever
        signal.raise_signal(SIGNAL)
        assert handled == []
    loop_until(lambda: handled)
    assert handled == [SIGNAL]


def test_a_loop_that_rests_is_interrupted_at_once(handled, monkeypatch):
    monkeypatch.setattr(signal, "setitimer", lambda *args: pytest.fail("it waits"))
    threading.Timer(0.05, partial(os.kill, os.getpid(), SIGNAL)).start()
    poller = poll()
    while not handled:
        poller.poll(5)
    monkeypatch.undo()
    assert handled == [SIGNAL]


def test_a_worker_that_never_rests_shuts_down_all_the_same(handled, monkeypatch):
    monkeypatch.setattr(shutdown, "PATIENCE", 0.05)
    signal.raise_signal(SIGNAL)
    deadline = time.monotonic() + 5
    while not handled and time.monotonic() < deadline:
        pass  # busy, as without a broker
    assert handled == [SIGNAL]


@pytest.mark.parametrize("has_loop", [True, False])
def test_only_workers_with_an_event_loop_wait(handled, has_loop):
    def celerys(number, frame):
        handled.append("Celery's")

    def set_handler(worker, sig):
        signal.signal(signal.Signals[sig], celerys)

    Waiting(partial(set_handler, sig=SIGNAL.name))(SimpleNamespace(use_eventloop=has_loop))
    assert isinstance(signal.getsignal(SIGNAL), AtRest) is has_loop
    signal.raise_signal(SIGNAL)
    loop_until(lambda: handled)
    assert handled == ["Celery's"]


def test_handlers_are_replaced_once(monkeypatch):
    names = ("install_worker_term_handler", "install_worker_term_hard_handler", "install_worker_int_handler")
    for name in names:
        monkeypatch.setattr(shutdown.celery_worker, name, getattr(shutdown.celery_worker, name))
    shutdown.install()
    first = [getattr(shutdown.celery_worker, name) for name in names]
    shutdown.install()
    assert [getattr(shutdown.celery_worker, name) for name in names] == first
    assert all(isinstance(one, Waiting) for one in first)
