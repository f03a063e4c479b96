"""Attempt 2 goes on where attempt 1 was: loops that are resumed, and values of the task's own."""

import pytest
from django.db import OperationalError
from django.db.models import QuerySet

from livejobs import TryAgain, checkpoint
from livejobs.models import Job
from livejobs.testing import assert_truthful


@pytest.fixture
def run(run_job, new_kind):
    """Runs a task's body as a job, attempt by attempt."""

    def run(body, **options):
        new_kind(body, **options)
        job = run_job(body.__name__)
        assert_truthful(job.snapshots)
        return job

    return run


@pytest.fixture
def every_item(monkeypatch):
    """Write a checkpoint after each item, as if a second had passed."""
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr("livejobs.report.REPORTS_PER_SECOND", 10**9)
    monkeypatch.setattr("livejobs.track.REPORTS_PER_SECOND", 10**9)


def test_a_loop_goes_on_after_the_items_that_are_done(run):
    done, attempts = [], []

    def work(self):
        attempts.append(self.request.attempt)
        for number in self.track(range(10), resume=True):
            if number == 6 and len(attempts) == 1:
                raise TryAgain("Busy.")
            done.append(number)
        return len(done)

    job = run(work)
    assert (job.state, job.result, done) == ("SUCCESS", 10, list(range(10)))
    second = [one for one in job.snapshots if one["attempt"] == 2 and one["state"] == "PROGRESS"]
    assert {one["resumed_from"] for one in second} == {60}
    assert (second[0]["current"], second[0]["percent"]) == (6, 60)


def test_a_whole_loop_is_passed_over_and_the_next_one_goes_on(run):
    done, attempts = [], []

    def work(self):
        attempts.append(self.request.attempt)
        for stage in ("Fetch", "Resize"):
            with self.stage(stage):
                for number in self.track(range(4), resume=True):
                    if (stage, number) == ("Resize", 1) and len(attempts) == 1:
                        raise TryAgain("Busy.")
                    done.append((stage, number))

    job = run(work, stages=[("Fetch", 1), ("Resize", 1)])
    assert done == [(stage, number) for stage in ("Fetch", "Resize") for number in range(4)]
    assert job.state == "SUCCESS"
    assert {one["resumed_from"] for one in job.snapshots if one["attempt"] == 2} == {62.5}


def test_a_killed_attempt_repeats_what_was_done_since_the_last_checkpoint(run, every_item, monkeypatch):
    """As after SIGKILL, the end of the loop writes nothing."""
    done, attempts = [], []
    write = checkpoint.Checkpoint.write

    def work(self):
        attempts.append(self.request.attempt)
        for number in self.track(range(100), resume=True):
            if number == 50 and len(attempts) == 1:
                monkeypatch.setattr(checkpoint.Checkpoint, "write", lambda self: None)
                raise TryAgain("Killed.")
            if len(attempts) == 2:
                monkeypatch.setattr(checkpoint.Checkpoint, "write", write)
            done.append(number)

    run(work)
    assert set(done) == set(range(100))
    assert len(done) <= 101


def test_the_row_is_written_at_most_once_a_second(run):
    def work(self):
        for number in self.track(range(20_000), resume=True):
            self.checkpoint(number)

    written = []
    count = checkpoint.Checkpoint.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "write", lambda self: written.append(1) or count(self))
        patch.setattr(checkpoint.time, "monotonic", lambda: 7.0)
        run(work)
    assert len(written) <= 3, "the first value, and the end of the loop"


def test_a_value_of_the_tasks_own(run):
    found = []

    def work(self):
        found.append(self.resumed)
        self.checkpoint({"page": 3, "day": None})
        if len(found) == 1:
            raise TryAgain("Busy.")

    run(work)
    assert found == [None, {"page": 3, "day": None}]


@pytest.mark.parametrize("is_slow", [True, False], ids=["a write for each item", "a write a second"])
def test_a_value_of_a_loop_is_that_of_the_items_that_are_done(run, is_slow, monkeypatch):
    """An item that is done again is not counted twice: the row has the value and the item, or neither."""
    if is_slow:
        monkeypatch.setattr(checkpoint, "EVERY", 0)
    attempts = []

    def work(self):
        attempts.append(self.request.attempt)
        total = self.resumed or 0
        for number in self.track(range(100), resume=True):
            total += number
            self.checkpoint(total)
            if number == 60 and len(attempts) == 1:
                raise TryAgain("Busy.")
        return total

    assert run(work).result == sum(range(100))


@pytest.mark.parametrize(("value", "words"), [({1, 2}, "JSON"), ("x" * 70_000, "65536")])
def test_what_a_row_cannot_hold_is_refused_in_words(run, value, words):
    def work(self):
        self.checkpoint(value)

    job = run(work)
    assert job.state == "FAILURE"
    assert words in job.traceback


def test_an_attempt_that_is_not_the_current_one_writes_nothing(run):
    def work(self):
        Job.objects.update(attempt=7)
        self.checkpoint("stale")
        Job.objects.update(attempt=1)

    assert run(work).checkpoint is None


def test_the_work_goes_on_while_the_database_is_away(run, monkeypatch):
    update, said = QuerySet.update, []

    def flaky(self, **values):
        if "checkpoint" in values:
            raise OperationalError("away")
        return update(self, **values)

    def work(self):
        return sum(self.track(range(5), resume=True))

    monkeypatch.setattr(checkpoint.connections, "close_all", lambda: None)
    monkeypatch.setattr(checkpoint.logger, "warning", lambda *words: said.append(words[0] % words[1:]))
    monkeypatch.setattr(QuerySet, "update", flaky)
    assert run(work).result == 10
    assert "cannot be written" in said[0]


def test_without_a_job_nothing_is_kept(new_kind):
    def work(self):
        self.checkpoint(1)
        return [self.resumed, *self.track(range(2), resume=True)]

    assert new_kind(work)() == [None, 0, 1]
