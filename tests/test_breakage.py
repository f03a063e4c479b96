"""The truth, whatever breaks: real processes, killed, stopped, cut off and started again while a job runs.

Workers that die are in test_lost_workers.py.
"""

import asyncio
import os
import signal

import pytest

from livejobs.jobs import UNREACHABLE
from testkit.fault_proxy import Mode
from testkit.pages import PATIENCE, press_start, running, the_end
from testkit.processes import wait_until
from testkit.stage import LINES, WEBS, WORKER
from testkit.watcher import visit

#: About 2 s of work for an idle core, and the answer.
BELOW, ANSWER = 3_000_000, 216_816
BROKER_LINES = [line for line in LINES if line[1] == "broker"]
DATABASE_LINES = [line for line in LINES if line[1] == "database"]


async def count_primes(page, below=BELOW, answer=ANSWER) -> str:
    """Press START. Returns the job's id, once that was told."""
    return await press_start(page, "count_primes", answer, below=below)


async def test_the_end_is_told_by_a_web_process_that_was_killed_and_started_again(whole, open_page):
    open_page.expect_dead_relays()
    page = open_page("web-1")
    job = await count_primes(page)
    await running(page, job)
    whole.kill("web-1")
    whole.start("web-1")
    assert (await the_end(page, job))["result"] == ANSWER
    assert page.connections >= 2


async def test_an_end_while_all_web_processes_are_down_is_told_on_their_return(whole, open_page):
    open_page.expect_dead_relays()
    page = open_page()
    job = await count_primes(page)
    await running(page, job)
    for web in WEBS:
        whole.kill(web)
    ended = f"[{job}] succeeded"
    await asyncio.to_thread(wait_until, lambda: ended in whole.site.log(WORKER), "the job has ended", PATIENCE)
    assert not page.ended(job)
    for web in WEBS:
        whole.start(web)
    assert (await the_end(page, job))["result"] == ANSWER


async def test_a_start_whose_web_process_dies_before_it_has_sent_the_task_is_not_lost(whole, open_page):
    open_page.expect_dead_relays()
    page = open_page("web-1")
    other = open_page("web-2")
    async with asyncio.timeout(PATIENCE):
        await other.until(lambda: other.connections)
        await page.until(lambda: page.connections)
    whole.break_lines([("web-1", "broker")], Mode.HALF_OPEN)
    before = len(whole.rows())
    ref = await page.start("count_primes", {"below": 10_000}, 1_229)
    await asyncio.to_thread(wait_until, lambda: len(whole.rows()) > before, "the row is written")
    whole.kill("web-1")
    whole.break_lines([("web-1", "broker")], Mode.PASS)
    whole.start("web-1")
    async with asyncio.timeout(PATIENCE):
        job = await page.until(lambda: page.task_of(ref))
    await the_end(page, job)
    await the_end(other, job)


async def test_a_job_of_many_jobs_ends_whatever_is_killed_meanwhile(whole, open_page):
    open_page.expect_dead_relays()
    open_page.expect_losses()
    page = open_page()
    job = await press_start(page, "parts", 32, count=8, seconds=1)
    await running(page, job)
    whole.kill(WORKER)
    whole.kill("web-1")
    for name in (WORKER, "web-1"):
        whole.start(name)
    end = await the_end(page, job)
    assert (end["state"], end["result"], end["children"]["succeeded"]) == ("SUCCESS", 32, 8)


@pytest.mark.parametrize("whose", [[WORKER], [*WEBS], [*WEBS, WORKER]], ids=lambda whose: "+".join(whose))
@pytest.mark.parametrize("mode", [Mode.RESET, Mode.HALF_OPEN], ids=lambda mode: mode.name)
async def test_a_job_succeeds_though_the_broker_is_cut_off_for_a_while(whole, open_page, whose, mode):
    lines = [line for line in BROKER_LINES if line[0] in whose]
    page = open_page()
    job = await count_primes(page)
    await running(page, job)
    whole.break_lines(lines, mode)
    await asyncio.sleep(2)
    whole.break_lines(lines, Mode.PASS)
    end = await the_end(page, job)
    assert (end["state"], end["result"]) == ("SUCCESS", ANSWER)
    another = await count_primes(page, 10_000, 1_229)
    assert (await the_end(page, another))["state"] == "SUCCESS"


async def test_a_job_that_is_done_while_rabbitmq_is_down_succeeds_when_it_is_back(whole, open_page):
    page = open_page()
    job = await count_primes(page)
    await running(page, job)
    await asyncio.to_thread(whole.services["broker"].kill)
    meanwhile = await count_primes(page, 10_000, 1_229)
    assert (await the_end(page, meanwhile))["error"] == UNREACHABLE
    waits = f"The end of job {job} waits for the broker"
    await asyncio.to_thread(wait_until, lambda: waits in whole.site.log(WORKER), "the job is done", PATIENCE)
    await asyncio.to_thread(whole.services["broker"].start)
    assert (await the_end(page, job))["result"] == ANSWER
    another = await count_primes(page, 10_000, 1_229)
    assert (await the_end(page, another))["state"] == "SUCCESS"


async def test_nothing_is_lost_when_postgresql_is_killed_and_started_again(whole, open_page):
    page = open_page()
    job = await count_primes(page)
    await running(page, job)
    await asyncio.to_thread(whole.services["database"].kill)
    ref = await page.start("count_primes", {"below": 10_000}, 1_229)
    await asyncio.to_thread(whole.services["database"].start)
    for web in WEBS:
        await asyncio.to_thread(visit, whole.host(web))  # no page is answered over a line from before
    assert (await the_end(page, job))["result"] == ANSWER
    async with asyncio.timeout(PATIENCE):
        pressed_meanwhile = await page.until(lambda: page.task_of(ref))
    assert (await the_end(page, pressed_meanwhile))["state"] == "SUCCESS"


@pytest.mark.parametrize("mode", [Mode.RESET, Mode.HALF_OPEN], ids=lambda mode: mode.name)
async def test_nothing_is_lost_while_the_database_is_gone(whole, open_page, mode):
    page = open_page()
    job = await count_primes(page)
    await running(page, job)
    whole.break_lines(DATABASE_LINES, mode)
    ref = await page.start("count_primes", {"below": 10_000}, 1_229)
    await asyncio.sleep(3)
    whole.break_lines(DATABASE_LINES, Mode.PASS)
    assert (await the_end(page, job))["result"] == ANSWER
    async with asyncio.timeout(PATIENCE):
        pressed_meanwhile = await page.until(lambda: page.task_of(ref))
    assert (await the_end(page, pressed_meanwhile))["state"] == "SUCCESS"


async def test_a_job_that_a_worker_takes_while_the_database_is_gone_is_done_when_it_is_back(whole, open_page):
    page = open_page()
    whole.break_lines([(WORKER, "database")], Mode.RESET)
    job = await count_primes(page, 10_000, 1_229)
    taken = f"[{job}] received"
    await asyncio.to_thread(wait_until, lambda: taken in whole.site.log(WORKER), "the worker has taken the job")
    await asyncio.sleep(2)
    whole.break_lines([(WORKER, "database")], Mode.PASS)
    end = await the_end(page, job)
    assert (end["state"], end["result"]) == ("SUCCESS", 1_229)


async def test_sockets_stay_and_are_told_the_end_when_redis_is_restarted(whole, open_page):
    pages = [open_page(web) for web in WEBS]
    job = await count_primes(pages[0])
    await running(pages[1], job)
    whole.services["redis"].kill()
    await asyncio.sleep(0.5)
    whole.services["redis"].start()
    for page in pages:
        assert (await the_end(page, job))["result"] == ANSWER
        assert page.connections == 1


async def test_an_end_while_redis_is_away_is_told_to_the_sockets_of_both_web_processes(whole, open_page):
    pages = [open_page(web) for web in WEBS]
    job = await count_primes(pages[0])
    await running(pages[1], job)
    whole.services["redis"].kill()
    ended = f"[{job}] succeeded"
    await asyncio.to_thread(wait_until, lambda: ended in whole.site.log(WORKER), "the job has ended", PATIENCE)
    await asyncio.sleep(1)
    whole.services["redis"].start()
    for page in pages:
        assert (await the_end(page, job))["result"] == ANSWER
        assert page.connections == 1


async def test_a_worker_that_is_asked_to_end_finishes_what_it_runs(whole, open_page):
    page = open_page()
    job = await count_primes(page)
    await running(page, job)
    worker = whole.processes[WORKER]
    whole.stop(WORKER)
    end = await the_end(page, job)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 1, ANSWER)
    assert await asyncio.to_thread(worker.wait, PATIENCE) == 0


@pytest.mark.parametrize("name", [*WEBS, WORKER])
async def test_a_process_that_stops_for_a_while_goes_on(whole, open_page, name):
    page = open_page()
    job = await count_primes(page)
    await running(page, job)
    whole.pause(name)
    await asyncio.sleep(2)
    whole.go_on(name)
    end = await the_end(page, job)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 1, ANSWER)


async def test_a_page_behind_a_half_open_line_holds_up_nobody_and_is_told_the_end_when_it_is_back(whole, open_page):
    page, other = open_page("web-1"), open_page(hosts=[whole.direct("web-1")])
    job = await count_primes(page)
    await running(page, job)
    whole.break_lines([("pages", "web-1")], Mode.HALF_OPEN)
    assert (await the_end(other, job))["result"] == ANSWER
    assert not page.ended(job)
    whole.break_lines([("pages", "web-1")], Mode.PASS)
    assert (await the_end(page, job))["result"] == ANSWER
    assert page.connections == 2


async def test_a_cancelled_job_ends_as_revoked_before_every_page(whole, open_page):
    pages = [open_page(web) for web in WEBS]
    job = await count_primes(pages[0], 10_000_000, 664_579)
    await running(pages[0], job)
    await pages[0].cancel(job)
    for page in pages:
        assert (await the_end(page, job))["state"] == "REVOKED"


async def test_a_killed_child_that_had_ended_a_cancelled_job_before_cancels_no_other(whole, open_page):
    open_page.expect_losses()
    page = open_page()
    cancelled = [await count_primes(page, 10_000_000, 664_579) for _ in whole.children()]
    for job in cancelled:
        await running(page, job)
        await page.cancel(job)
    for job in cancelled:
        assert (await the_end(page, job))["state"] == "REVOKED"
    job = await count_primes(page)
    await running(page, job)
    for child in whole.children():
        os.kill(child, signal.SIGKILL)
    end = await the_end(page, job)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 2, ANSWER)


async def test_jobs_that_are_cancelled_in_the_midst_of_a_report_end_and_leave_their_worker_free(whole, open_page):
    whole.mend({WORKER: 10})
    page = open_page()
    jobs = [await press_start(page, "reports", 10_000, count=10_000, rate=200) for _ in range(10)]
    for job in jobs:
        await running(page, job)
        await page.cancel(job)
    for job in jobs:
        assert (await the_end(page, job))["state"] == "REVOKED"

    def ends() -> list[str | None]:
        return [whole.executions()[job][0].end for job in jobs]

    await asyncio.to_thread(wait_until, lambda: None not in ends(), "all executions have ended")
    assert ends() == ["Stopped"] * 10
    await asyncio.to_thread(whole.stop_and_wait, WORKER)
