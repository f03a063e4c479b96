"""A job lasts as long as it lasts: a broker that delivers it again, restarts or is cut off begins no second attempt.

The durations are short enough for every run of the tests; FULL_LENGTH=1 makes them as long as the design's own
numbers: a job of 60 s instead of 25 s, five restarts during 150 s instead of two during 25 s, and both ways of
cutting a line on both brokers. Measured times are printed (`pytest -s`) and not asserted.
"""

import asyncio
import os
import time

import pytest

from testkit.fault_proxy import Mode
from testkit.pages import press_start, running, the_end, told
from testkit.processes import wait_until
from testkit.stage import RABBITMQ, REDIS, SECOND, WORKER, WORKERS

FULL_LENGTH = os.environ.get("FULL_LENGTH") == "1"
#: Seconds of a job that outlives a broker's patience.
LASTS = 60 if FULL_LENGTH else 25
#: Restarts of a broker during one job, and the seconds of that job.
RESTARTS, RESTARTED = (5, 150) if FULL_LENGTH else (2, 25)
#: Seconds that the line between worker and broker is cut for.
CUT = 15
CUTS = [(RABBITMQ, Mode.HALF_OPEN), (REDIS, Mode.RESET)]
if FULL_LENGTH:
    CUTS += [(RABBITMQ, Mode.RESET), (REDIS, Mode.HALF_OPEN)]


def deliveries(stage, job) -> int:
    """Return how often workers have received a job, those of earlier log files included."""
    logs = (path.read_text() for path in stage.folder.glob("worker*.log"))
    return sum(log.count(f"[{job}] received") for log in logs)


async def delivered_again(stage, job, times):
    """Wait until a job has been delivered so often."""
    await asyncio.to_thread(wait_until, lambda: deliveries(stage, job) >= times, f"{times} deliveries of {job}", 120)


def assert_executed_once(stage, job):
    executions = stage.executions()[job]
    assert [(one.attempt, one.end) for one in executions] == [(1, "done")]


@pytest.mark.parametrize("stage", [RABBITMQ, REDIS], indirect=True)
async def test_a_job_that_outlives_the_brokers_patience_runs_once(whole, open_page):
    await asyncio.to_thread(whole.mend, dict.fromkeys(WORKERS, 2))
    page = open_page()
    job = await press_start(page, "steps", 500, count=500, seconds=LASTS)
    other = await press_start(page, "steps", 500, count=500, seconds=10 * LASTS)
    await running(page, job)
    await running(page, other)
    await delivered_again(whole, job, 2)
    await delivered_again(whole, other, 2)
    pressed = time.monotonic()
    quick = await press_start(page, "steps", 1, count=1, seconds=0)
    await the_end(page, quick)
    print(f"{whole.broker}: a job started meanwhile began and ended within {time.monotonic() - pressed:.1f} s")
    cancelled = time.monotonic()
    await page.cancel(other)
    assert (await the_end(page, other))["state"] == "REVOKED"
    print(f"{whole.broker}: a cancel ended its job within {time.monotonic() - cancelled:.1f} s")
    end = await the_end(page, job)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 1, 500)
    assert_executed_once(whole, job)
    assert all(whole.running(worker) for worker in WORKERS)
    print(f"{whole.broker}: {deliveries(whole, job)} deliveries of a job of {LASTS} s, executed once")


async def test_a_job_outlives_restarts_of_rabbitmq(whole, open_page):
    page = open_page()
    job = await press_start(page, "steps", 500, count=500, seconds=RESTARTED)
    await running(page, job)
    for restart in range(1, RESTARTS + 1):
        await asyncio.to_thread(whole.services["broker"].kill)
        await asyncio.to_thread(whole.services["broker"].start)
        await delivered_again(whole, job, 1 + restart)
        assert not page.ended(job)
    end = await the_end(page, job, RESTARTED + 60)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 1, 500)
    assert_executed_once(whole, job)
    print(f"{RESTARTS} restarts, {deliveries(whole, job)} deliveries of a job of {RESTARTED} s, executed once")


@pytest.mark.parametrize(("stage", "mode"), CUTS, indirect=["stage"], ids=lambda one: getattr(one, "name", one))
async def test_a_job_outlives_a_cut_line_between_its_worker_and_the_broker(whole, open_page, mode):
    await asyncio.to_thread(whole.mend, dict.fromkeys(WORKERS, 2))
    page = open_page()
    job = await press_start(page, "steps", 500, count=500, seconds=LASTS)
    await running(page, job)
    began = whole.executions()[job][0]
    (worker,) = (name for name in (WORKER, SECOND) if began.process in whole.children(name))
    whole.break_lines([(worker, "broker")], mode)
    await asyncio.sleep(CUT)
    whole.break_lines([(worker, "broker")], Mode.PASS)
    end = await the_end(page, job)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 1, 500)
    assert_executed_once(whole, job)
    again = await press_start(page, "steps", 1, count=1, seconds=0)
    assert (await told(page, again, "SUCCESS"))["attempt"] == 1
