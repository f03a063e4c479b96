"""A worker that dies, leaves in order or stops for a while: its jobs are begun again, told so, and end once.

The durations are short enough for every run of the tests; FULL_LENGTH=1 makes them as long as the design's own
numbers: ten orderly shutdowns instead of four, a worker stopped for 40 s instead of 16 s, every case on all brokers.
Measured times are printed (`pytest -s`) and not asserted.
"""

import asyncio
import os
import signal
import time
from functools import partial

import pytest

from testkit.history import FINAL
from testkit.pages import press_start, running, the_end, told
from testkit.processes import wait_until
from testkit.stage import BROKERS, RABBITMQ, SECOND, WORKER, WORKERS

FULL_LENGTH = os.environ.get("FULL_LENGTH") == "1"
SHUTDOWNS = 10 if FULL_LENGTH else 4
STOPPED = 40 if FULL_LENGTH else 16
DEATHS = {
    "the whole worker": lambda stage: stage.kill(WORKER),
    "the main process alone": lambda stage: stage.kill_alone(WORKER),
    "the child": lambda stage: stage.kill_a_child(WORKER),
}
#: What is tried on which broker: what differs by the broker, on all of them.
DEATHS_ON = [(broker, dead) for broker in BROKERS for dead in DEATHS]
if not FULL_LENGTH:
    DEATHS_ON = [(broker, dead) for broker, dead in DEATHS_ON if broker == RABBITMQ or "alone" not in dead]
ONCE = BROKERS if FULL_LENGTH else [RABBITMQ]
#: A job that is orphaned goes on, and may well end first: it must last longer than its worker's death stays unnoticed.
LASTS = {"the whole worker": 4, "the main process alone": 20, "the child": 4}


@pytest.mark.parametrize(("stage", "dead"), DEATHS_ON, indirect=["stage"])
async def test_every_page_is_told_of_a_lost_worker_and_the_job_is_begun_again(whole, open_page, dead):
    open_page.expect_losses()
    pages = [open_page(web) for web in whole.webs]
    job = await press_start(pages[0], "steps", 100, count=100, seconds=LASTS[dead])
    await running(pages[0], job)
    others = []  # jobs that run and wait beside it
    while dead == "the whole worker" and len(others) < 3:
        others.append(await press_start(pages[0], "steps", 5, count=5, seconds=1))
    DEATHS[dead](whole)
    died = time.monotonic()
    if not whole.running(WORKER):
        whole.start(WORKER)
    for page in pages:
        retry = await told(page, job, "RETRY")
        assert "lost" in retry["error"]
        assert retry["attempt"] == 1
    print(f"{whole.broker}, {dead}: the loss is told after {time.monotonic() - died:.1f} s")
    await asyncio.to_thread(
        wait_until, lambda: 2 in [one.attempt for one in whole.executions()[job]], "the job is begun again", 90
    )
    print(f"{whole.broker}, {dead}: attempt 2 begins after {time.monotonic() - died:.1f} s")
    for page in pages:
        end = await the_end(page, job)
        assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 2, 100)
    for other in others:
        assert (await the_end(pages[0], other))["result"] == 5


@pytest.mark.parametrize("stage", ONCE, indirect=True)
async def test_three_losses_end_a_job_with_a_true_sentence_at_the_percentage_that_it_reached(whole, open_page):
    open_page.expect_losses()
    page = open_page()
    job = await press_start(page, "steps", 500, count=500, seconds=60)
    for attempt in (1, 2, 3):
        await running(page, job, attempt, percent=1)
        assert whole.kill_a_child() == whole.executions()[job][-1].process
    end = await the_end(page, job)
    assert (end["state"], end["attempt"]) == ("FAILURE", 3)
    assert "lost" in end["error"]
    assert "3 times" in end["error"]
    assert 1 <= end["percent"] < 100
    assert [one.attempt for one in whole.executions()[job]] == [1, 2, 3]


def cold(stage):
    """SIGQUIT: a cold shutdown."""
    stage.stop_and_wait(WORKER, signal.SIGQUIT)


def by_honcho(stage):
    """Ctrl-C of `make run`: honcho sends SIGTERM to the worker and its children; REMAP_SIGTERM makes it a SIGQUIT."""
    stage.stop_and_wait(WORKER, signal.SIGTERM, group=True)


def twice(stage):
    """Ctrl-C twice in the worker's own terminal: first a warm shutdown, then a cold one."""
    stage.stop_and_wait(WORKER, signal.SIGINT, group=True, times=2)


#: How a worker is ended in order, and the environment that it has then.
WAYS = [(cold, {}), (by_honcho, {"REMAP_SIGTERM": "SIGQUIT"}), (twice, {})]


@pytest.mark.parametrize("stage", ONCE, indirect=True)  # the folder broker's is in test_make_run.py
async def test_a_job_is_taken_up_after_each_orderly_shutdown_and_is_never_lost(whole, open_page):
    open_page.expect_attempts()
    page = open_page()
    whole.stop_and_wait(WORKER)
    for shutdown in range(SHUTDOWNS):
        way, environment = WAYS[shutdown % len(WAYS)]
        whole.start(WORKER, **environment)
        await asyncio.to_thread(whole.ready, WORKER)
        if shutdown == 0:
            job = await press_start(page, "steps", 100, count=100, seconds=15)
        await running(page, job, shutdown + 1)
        await asyncio.to_thread(way, whole)
        assert not page.ended(job)
    whole.start(WORKER)
    end = await the_end(page, job)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", SHUTDOWNS + 1, 100)
    assert [one.attempt for one in whole.executions()[job]] == list(range(1, SHUTDOWNS + 2))


@pytest.mark.parametrize("stage", BROKERS, indirect=True)
async def test_a_job_is_finished_by_a_worker_that_is_asked_to_end(whole, open_page):
    page = open_page()
    job = await press_start(page, "steps", 100, count=100, seconds=4)
    await running(page, job)
    await asyncio.to_thread(whole.stop_and_wait, WORKER)
    end = await the_end(page, job)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 1, 100)


@pytest.mark.parametrize("stage", ONCE, indirect=True)
async def test_a_worker_that_was_stopped_for_a_while_ends_no_job_that_another_has_begun_since(whole, open_page):
    open_page.expect_losses()
    await asyncio.to_thread(whole.mend, dict.fromkeys(WORKERS, 2))
    page = open_page()
    job = await press_start(page, "steps", 500, count=500, seconds=STOPPED + 10)
    await running(page, job)
    first = whole.executions()[job][0]
    (stopped,) = (name for name in (WORKER, SECOND) if first.process in whole.children(name))
    whole.pause(stopped)
    at = time.monotonic()
    await running(page, job, attempt=2)
    print(f"{whole.broker}: attempt 2 has begun {time.monotonic() - at:.1f} s after the worker was stopped")
    await asyncio.sleep(max(0, at + STOPPED - time.monotonic()))
    assert not page.ended(job)
    whole.go_on(stopped)
    back = time.monotonic()
    ended = partial(_end_of, whole, job, first.process)
    assert await asyncio.to_thread(wait_until, ended, "the stale attempt stops", 90) != "done"
    print(f"{whole.broker}: the stale attempt stopped {time.monotonic() - back:.1f} s after its return")
    end = await the_end(page, job)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 2, 500)
    assert [(one.attempt, one.end == "done") for one in whole.executions()[job]] == [(1, False), (2, True)]
    assert len([one for one in page.frames(job) if one.frame["state"] in FINAL]) >= 1
    again = await press_start(page, "steps", 1, count=1, seconds=0)
    assert (await told(page, again, "SUCCESS"))["attempt"] == 1
    assert all(whole.running(worker) for worker in WORKERS)


def _end_of(stage, job, process) -> str | None:
    return next(one.end for one in stage.executions()[job] if one.process == process)
