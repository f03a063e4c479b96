"""Odd tasks end truthfully: each sent to a real worker, whose main process and site must outlive all of them."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from redis import Redis

from livejobs.outcome import (
    ENDED_ITSELF,
    FAILED,
    OUT_OF_MEMORY,
    SUMMARY_IS_NO_TEXT,
    TOO_LARGE,
    TOO_LONG,
    UNSTORABLE,
)
from testkit.processes import ROOT, Site, wait_until

#: How each kind ends: its state, and what the visitor is told of it, or the result.
ENDS = {
    "memory": ("FAILURE", OUT_OF_MEMORY),
    "exit": ("FAILURE", ENDED_ITSELF),
    "exit_well": ("FAILURE", ENDED_ITSELF),
    "interrupt": ("FAILURE", FAILED),
    "recursion": ("FAILURE", FAILED),
    "generator_exit": ("FAILURE", FAILED),
    "base": ("FAILURE", FAILED),
    "ordinary": ("FAILURE", FAILED),
    "ignore": ("FAILURE", ENDED_ITSELF),
    "reject": ("FAILURE", ENDED_ITSELF),
    "reject_requeue": ("FAILURE", ENDED_ITSELF),
    "soft": ("FAILURE", TOO_LONG),
    "hard": ("FAILURE", TOO_LONG),
    "lost_elsewhere": ("FAILURE", FAILED),
    "terminated": ("FAILURE", FAILED),
    "shutdown": ("FAILURE", ENDED_ITSELF),
    "terminate": ("FAILURE", ENDED_ITSELF),
    "unprintable": ("FAILURE", FAILED),
    "unpicklable": ("FAILURE", FAILED),
    "huge": ("FAILURE", FAILED),
    "another_modules": ("FAILURE", FAILED),
    "job_error": ("FAILURE", "A sentence."),
    "subclass": ("FAILURE", "5 EUR have been refunded."),
    "own_text": ("FAILURE", "Shown: a sentence."),
    "no_sentence": ("FAILURE", FAILED),
    "number": ("FAILURE", "42"),
    "nul": ("FAILURE", "ab" + "c" * 497),
    "returns_dates": ("SUCCESS", {"day": "2026-01-02", "price": "1.50", "of": "00000000-0000-0000-0000-000000000001"}),
    "returns_bytes": ("SUCCESS", "1 byte"),
    "returns_a_summary_that_is_no_text": ("FAILURE", SUMMARY_IS_NO_TEXT),
    "returns_a_set": ("FAILURE", UNSTORABLE),
    "returns_an_object": ("FAILURE", UNSTORABLE),
    "returns_nan": ("FAILURE", UNSTORABLE),
    "returns_too_much": ("FAILURE", TOO_LARGE),
    "returns_depth": ("FAILURE", UNSTORABLE),
    "returns_a_large_number": ("SUCCESS", 10**30),
    "too_slow": ("FAILURE", TOO_LONG),
    "much_too_slow": ("FAILURE", TOO_LONG),
    "too_slow_in_own_words": ("FAILURE", "Only half of it could be done."),
    "custom": ("SUCCESS", "done"),
    "replaced": ("FAILURE", FAILED),
    "no_row": ("FAILURE", FAILED),
    "ignores_its_result": ("SUCCESS", 5),
}
#: Tasks that take the child with them: three times, each of which Celery notices after 10 s.
DEADLY = ["os_exit", "segmentation_fault"]


class OddSite(Site):
    """A site whose driver is the test: it starts jobs, and reads their rows."""

    def __init__(self, folder, **environment):
        environment["DJANGO_SETTINGS_MODULE"] = "testkit.odd_settings"
        super().__init__(folder, JOBS_UNFINISHED_PER_OWNER="1000", **environment)

    def run(self, call: str):
        """Return what a function of `odd_tasks` returns, called in a process of the site."""
        code = f"import json; from testkit import odd_tasks; print(json.dumps(odd_tasks.{call}))"
        command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
        output = subprocess.run(command, cwd=ROOT, env=self.environment, check=True, stdout=subprocess.PIPE).stdout
        return json.loads(output.splitlines()[-1])

    def started(self, *kinds: str) -> dict[str, str]:
        """Start a job of each kind. Returns their ids by kind."""
        return self.run(f"start(*{kinds!r})")

    def row(self, task_id: str) -> dict:
        """Return a job's row."""
        with closing(sqlite3.connect(self.folder / "var" / "db.sqlite3", timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            row = connection.execute('SELECT * FROM "livejobs_job" WHERE id = ?', [task_id.replace("-", "")]).fetchone()
        return dict(row)

    def ended(self, task_id: str, seconds: float = 60) -> dict:
        """Return a job's row once it has ended."""
        wait_until(lambda: self.row(task_id)["finished_at"], f"{task_id} has ended; see {self.folder}", seconds)
        return self.row(task_id)

    def until(self, task_id: str, **fields) -> dict:
        """Return a job's row once it says so."""
        wait_until(lambda: fields.items() <= self.row(task_id).items(), f"{task_id}: {fields}; see {self.folder}")
        return self.row(task_id)

    def cancel(self, task_id: str):
        """Cancel a job."""
        self.run(f"cancel({task_id!r})")


def sleeping_pids(site) -> list[int]:
    """Return the children of the site's worker."""
    pid = site.main.pid
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(child) for child in children.read().split()]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with one worker, for all tests of this module that do not ask for another."""
    site = OddSite(tmp_path_factory.mktemp("odd"))
    site.web()
    site.main = site.worker(6)
    yield site
    site.kill_all()


@pytest.fixture(scope="module")
def jobs(site) -> dict[str, str]:
    """A job of every kind in `ENDS` and `DEADLY`, all started at once; their ids."""
    return site.started(*DEADLY, *ENDS)


@pytest.mark.parametrize("kind", ENDS)
def test_each_odd_task_ends_once_and_truthfully(site, jobs, kind):
    row = site.ended(jobs[kind])
    said = json.loads(row["result"]) if row["state"] == "SUCCESS" else row["error"]
    assert (row["state"], said, row["attempt"]) == (*ENDS[kind], 1)
    assert "secret" not in row["error"]


def test_the_admin_reads_where_it_happened(site, jobs):
    for kind in ("memory", "exit", "ignore", "unprintable", "ordinary", "huge"):
        traceback = site.ended(jobs[kind])["traceback"]
        assert "odd_tasks.py" in traceback
        assert 0 < len(traceback) <= 64 * 1024


@pytest.mark.parametrize("kind", DEADLY)
def test_a_task_that_kills_its_child_ends_too(site, jobs, kind):
    row = site.ended(jobs[kind], 120)
    assert row["state"] == "FAILURE"
    assert "lost" in row["error"]


def test_the_worker_and_the_site_outlive_them_all(site, jobs):
    for task_id in jobs.values():
        site.ended(task_id, 120)
    assert site.main.poll() is None
    assert all(process.poll() is None for process in site.processes)
    one = site.started("count_primes")["count_primes"]
    assert site.ended(one)["state"] == "SUCCESS"


def test_a_custom_state_is_shown_as_the_description(site):
    task_id = site.started("custom")["custom"]
    site.ended(task_id)
    log = site.log("worker-1")
    assert "a job ends when its task does" in log
    assert "leave task_id out" in log


def test_a_thread_is_told_how_to_report(site):
    row = site.ended(site.started("threaded")["threaded"])
    assert "call update_state with the task_id" in row["result"]
    assert (row["state"], row["attempt"]) == ("SUCCESS", 1)


def test_a_job_started_from_inside_a_job_runs(site):
    row = site.ended(site.started("starts_another")["starts_another"])
    assert site.ended(json.loads(row["result"]))["result"] == "168"


def test_tasks_that_are_no_jobs_have_results_of_their_own(site):
    slow = site.started("slow")["slow"]  # its reports are in the reply queue meanwhile
    assert site.run("plain()") == {
        "get": 3,
        "state": "SUCCESS",
        "ready": True,
        "group": [0, 2, 4],
        "chain": 6,
        "chord": 6,
    }
    assert site.row(slow)["finished_at"] is None
    site.cancel(slow)
    assert site.ended(slow)["state"] == "REVOKED"


def test_what_a_job_has_come_to_is_read_from_its_row(site, jobs):
    def asked(kind) -> list:
        return site.run(f"asked({kind!r}, {jobs[kind]!r})")

    assert asked("ignores_its_result") == ["SUCCESS", "5"]
    assert asked("job_error") == ["FAILURE", "JobError('A sentence.')"]


@pytest.mark.parametrize("kind", ["slow", "asleep", "stubborn", "tidy", "wrapping", "cancelled_with_a_limit"])
def test_a_cancelled_job_is_revoked_whatever_it_makes_of_that(site, kind):
    task_id = site.started(kind)[kind]
    site.until(task_id, attempt=1)
    site.cancel(task_id)
    row = site.ended(task_id)
    assert (row["state"], row["error"], row["attempt"]) == ("REVOKED", "", 1)


def test_a_stray_signal_does_no_harm(tmp_path):
    site = OddSite(tmp_path)
    try:
        site.web()
        site.main = site.worker(2)
        jobs = site.started("slow", "stubborn")  # one in each child
        for task_id in jobs.values():
            site.until(task_id, attempt=1)
        for task_id in jobs.values():
            site.cancel(task_id)
            site.ended(task_id)
        children = sleeping_pids(site)
        for child in children:
            os.kill(child, signal.SIGUSR1)
        task_id = site.started("count_primes")["count_primes"]
        assert site.ended(task_id)["state"] == "SUCCESS"
        assert set(children) == set(sleeping_pids(site))
    finally:
        site.kill_all()


def test_the_workers_own_limits(tmp_path):
    site = OddSite(tmp_path)
    try:
        site.web()
        main = site.worker(2, "--soft-time-limit", "1", "--time-limit", "4")
        jobs = site.started("asleep", "stubborn", "slow", "too_slow_in_own_words")
        for kind in ("asleep", "stubborn", "slow"):
            row = site.ended(jobs[kind])
            assert (row["state"], row["error"], row["attempt"]) == ("FAILURE", TOO_LONG, 1)
        assert site.ended(jobs["too_slow_in_own_words"])["error"] == "Only half of it could be done."
        assert main.poll() is None
    finally:
        site.kill_all()


def test_over_rabbitmq_and_redis_too(tmp_path, amqp_url, redis_url):
    site = OddSite(tmp_path, CELERY_BROKER_URL=amqp_url, REDIS_URL=redis_url)
    redis = Redis.from_url(redis_url)
    try:
        site.web()
        main = site.worker(4)
        site.worker(1)  # it does not have the job that is cancelled
        kinds = ("memory", "exit", "ignore", "reject_requeue", "huge", "returns_too_much", "too_slow", "much_too_slow")
        jobs = site.started(*kinds, "slow")
        assert site.run("plain()")["chord"] == 6
        for kind in kinds:
            row = site.ended(jobs[kind])
            assert (kind, row["state"], row["error"], row["attempt"]) == (kind, *ENDS[kind], 1)
        site.cancel(jobs["slow"])
        assert site.ended(jobs["slow"])["state"] == "REVOKED"
        assert main.poll() is None
        kept = [key.decode() for key in redis.keys("celery-task-meta-*")]
        assert kept
        assert not [key for key in kept for job in jobs.values() if job in key], "a job has no result of Celery's"
    finally:
        site.kill_all()
        redis.close()


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_cancelled_job_is_revoked_in_the_other_pools_too(tmp_path, pool):
    site = OddSite(tmp_path)
    try:
        site.web()
        main = site.worker(2, "--pool", pool)
        for kind in ("slow", "stubborn"):
            task_id = site.started(kind)[kind]
            site.until(task_id, attempt=1)
            site.cancel(task_id)
            row = site.ended(task_id)
            assert (row["state"], row["attempt"]) == ("REVOKED", 1)
        kinds = [kind for kind in ENDS if kind not in ("too_slow", "much_too_slow", "too_slow_in_own_words")]
        jobs = site.started(*kinds)  # limits need the prefork pool
        for kind in kinds:
            row = site.ended(jobs[kind])
            said = json.loads(row["result"]) if row["state"] == "SUCCESS" else row["error"]
            assert (kind, row["state"], said) == (kind, *ENDS[kind])
        assert main.poll() is None
    finally:
        site.kill_all()
