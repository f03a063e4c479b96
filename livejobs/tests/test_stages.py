"""Several loops, loops in loops, and stages: one percentage that never goes back, and is unknown if it must be."""

import itertools

import pytest
from django.core.checks import run_checks

from livejobs import TryAgain
from livejobs.testing import assert_truthful


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only as the test says: a report for each step."""
    passed = itertools.count(step=1)
    monkeypatch.setattr("livejobs.report.time.monotonic", lambda: float(next(passed)))


@pytest.fixture
def told(run_job, new_kind, clock):
    """Runs a task's body as a job. Returns (stage, current, total, percent) of each of its reports, and the job."""

    def told(body, **options):
        new_kind(body, **options)
        job = run_job(body.__name__)
        assert_truthful(job.snapshots)
        running = [one for one in job.snapshots if one["state"] == "PROGRESS"]
        return [(one["stage"], one["current"], one["total"], one["percent"]) for one in running], job

    return told


def percentages(reports):
    return [percent for _, _, _, percent in reports]


def stage(index, of, name):
    return {"index": index, "of": of, "name": name}


def test_declared_stages_share_the_bar_by_their_weights(told):
    def work(self):
        with self.stage("Fetch"):
            list(self.track(range(4)))
        with self.stage("Resize"):
            list(self.track(range(2)))

    reports, job = told(work, stages=[("Fetch", 1), ("Resize", 3)])
    assert (stage(1, 2, "Fetch"), 2, 4, 12.5) in reports
    assert (stage(1, 2, "Fetch"), 4, 4, 25) in reports
    assert (stage(2, 2, "Resize"), 1, 2, 62.5) in reports
    assert (job.state, job.percent) == ("SUCCESS", 100)


def test_a_stage_that_is_left_out_counts_as_done(told):
    def work(self):
        with self.stage("Resize"):
            list(self.track(range(2)))

    reports, _ = told(work, stages=[("Fetch", 1), ("Resize", 3)])
    assert percentages(reports)[0] == 25


def test_a_stage_without_a_loop_is_done_when_it_is_left(told):
    def work(self):
        with self.stage("Fetch"):
            pass
        with self.stage("Store"):
            self.report(1, 2)

    reports, _ = told(work, stages=[("Fetch", 1), ("Store", 1)])
    assert {0, 50, 75} <= set(percentages(reports))


def test_a_weight_may_be_known_better_later(told):
    def work(self):
        with self.stage("Fetch"):
            pass
        with self.stage("Convert", weight=9):
            self.report(1, 9)

    reports, _ = told(work, stages=[("Fetch", 1), ("Convert", 1)])
    assert percentages(reports)[-1] == 100
    assert 50 in percentages(reports), "what was told is not taken back"


def test_stages_that_were_not_declared_are_told_with_their_count_and_without_a_percentage(told):
    def work(self):
        for name in ("Fetch", "Resize"):
            with self.stage(name):
                list(self.track(range(3)))

    reports, job = told(work)
    assert set(percentages(reports)) == {None}
    assert (stage(2, None, "Resize"), 2, 3, None) in reports
    assert job.percent == 100


def test_a_second_loop_is_a_step_of_its_own_and_the_percentage_stays(told):
    def work(self):
        list(self.track(range(4)))
        list(self.track(range(5)))

    reports, _ = told(work)
    assert (None, 2, 4, 50) in reports
    assert (stage(2, None, ""), 3, 5, 100) in reports


def test_a_loop_within_a_loop_shares_one_step_of_it(told):
    def work(self):
        for _ in self.track(range(4)):
            list(self.track(range(10)))

    reports, _ = told(work)
    assert (None, 1, 4, 37.5) in reports, "half of the second of four steps"
    assert len(set(percentages(reports))) > 30
    assert {current for _, current, _, _ in reports} <= {0, 1, 2, 3, 4}


def test_a_second_loop_within_one_step_adds_nothing_that_must_be_taken_back(told):
    def work(self):
        for _ in self.track(range(2)):
            list(self.track(range(4)))
            list(self.track(range(4)))

    reports, _ = told(work)
    assert percentages(reports) == sorted(percentages(reports))
    assert all(stage is None for stage, _, _, _ in reports)


def test_loops_of_an_unknown_length_within_a_stage_and_around_one_another(told):
    def work(self):
        with self.stage("Read"):
            for _ in self.track(iter("abc")):
                list(self.track(range(3)))
        with self.stage("Write"):
            list(self.track(range(2)))

    reports, _ = told(work, stages=[("Read", 1), ("Write", 1)])
    assert (stage(1, 2, "Read"), 2, None, 0) in reports
    assert (stage(2, 2, "Write"), 1, 2, 75) in reports


def test_three_loops_within_one_another_come_to_the_whole(told):
    def work(self):
        for _ in self.track(range(2)):
            for _ in self.track(range(2)):
                list(self.track(range(2)))

    reports, _ = told(work)
    assert [percent for percent, _ in itertools.groupby(percentages(reports))] == [
        0,
        12.5,
        25,
        37.5,
        50,
        62.5,
        75,
        87.5,
        100,
    ]


def test_a_stage_that_is_not_declared_is_refused_in_words(told):
    def work(self):
        with self.stage("Resise"):
            """Not reached."""

    _, job = told(work, stages=[("Fetch", 1), ("Resize", 3)])
    assert job.state == "FAILURE"
    assert "Declared: Fetch, Resize" in job.traceback


def test_a_failure_keeps_its_stage_and_percentage(told):
    def work(self):
        with self.stage("Fetch"):
            list(self.track(range(3)))
        with self.stage("Resize"):
            for number in self.track(range(4)):
                if number == 2:
                    raise OSError

    _, job = told(work, stages=[("Fetch", 1), ("Resize", 1)])
    assert (job.state, job.percent, job.stage) == ("FAILURE", 75, (2, 2, "Resize"))


def test_reports_in_celerys_words_count_within_the_stage(told):
    def work(self):
        with self.stage("Store"):
            self.update_state(state="PROGRESS", meta={"current": 1, "total": 4, "stage": "mine"})

    reports, _ = told(work, stages=[("Fetch", 1), ("Store", 1)])
    assert (stage(2, 2, "Store"), 1, 4, 62.5) in reports


def test_a_later_attempt_begins_without_a_stage(told):
    attempts = []

    def work(self):
        attempts.append(1)
        if len(attempts) == 2:
            return
        with self.stage("Fetch"):
            raise TryAgain("Busy.")

    _, job = told(work)
    assert job.stage is None


@pytest.mark.parametrize(
    ("stages", "fitting"),
    [
        ([], True),
        ([("Fetch", 1), ("Resize", 0.5)], True),
        ([("Fetch", 0)], False),
        ([("Fetch", 1), ("Fetch", 1)], False),
        (["Fetch"], False),
        ([("Fetch", "much")], False),
    ],
)
def test_stages_are_checked(new_kind, db, stages, fitting):
    def work(self):
        """Not run."""

    new_kind(work, stages=stages)
    assert [one.id for one in run_checks() if one.id == "livejobs.E012"] == ([] if fitting else ["livejobs.E012"])
