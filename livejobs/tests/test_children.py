"""Jobs with children: how they are started, counted, cancelled and repeated. No broker takes part."""

import itertools
import json
import math
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from django import forms
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.utils import timezone

from livejobs import files, jobs, new_job, parents
from livejobs.children import LAST
from livejobs.inline import Inline
from livejobs.models import SEQ_PER_ATTEMPT, Job, State, Worker
from livejobs.outcome import JobError, TryAgain
from livejobs.refused import Refused
from livejobs.relay import Relay
from livejobs.reply import Reply
from livejobs.snapshot import Snapshot
from livejobs.testing import assert_truthful, run_job
from livejobs.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def part(new_kind):
    """A kind whose jobs return their number, unless they are told to fail."""

    class Numbered(forms.Form):
        number = forms.IntegerField(initial=0)
        fails = forms.BooleanField(required=False)

    ran, failing = [], set()

    def part(self, number, fails):
        ran.append(number)
        if fails or number in failing:
            raise JobError("It cannot be done.")
        return number

    task = new_kind(part, form=Numbered, title="Part {number}", startable=False)
    task.ran, task.failing = ran, failing
    return task


@pytest.fixture
def total(new_kind):
    def total(self):
        return sum(self.results())

    return new_kind(total, title="Total", startable=False)


def test_a_job_ends_after_its_children_with_the_result_of_the_last_one(new_kind, part, total):
    def whole(self):
        self.children([(part, {"number": number}) for number in range(3)], then=total)

    new_kind(whole)
    job = run_job("whole")
    assert (job.state, job.result, job.percent, job.error) == ("SUCCESS", 3, 100, "")
    assert job.snapshots[-1]["children"] == {"total": 3, "succeeded": 3, "failed": 0, "running": 0, "failures": []}
    assert_truthful(job.snapshots)
    children = Job.objects.filter(parent=job).order_by("position")
    assert [(one.title, one.state) for one in children] == [
        ("Total", "SUCCESS"),
        *((f"Part {number}", "SUCCESS") for number in range(3)),
    ]


def test_without_a_last_one_the_job_has_no_result(new_kind, part):
    def whole(self):
        return self.children([part])

    new_kind(whole)
    job = run_job("whole")
    assert (job.state, job.result) == ("SUCCESS", None)


def test_a_failed_child_is_named_and_the_others_go_on(new_kind, part, total):
    def whole(self):
        self.children([(part, {"number": number, "fails": number == 1}) for number in range(4)], then=total)

    new_kind(whole)
    job = run_job("whole")
    assert part.ran == [0, 1, 2, 3]
    assert (job.state, job.error) == ("FAILURE", "1 of 4 parts failed: Part 1.")
    assert job.snapshots[-1]["children"]["failures"] == ["Part 1"]
    assert job.percent < 100
    assert not Job.objects.filter(parent=job, position=LAST).exists()


def test_a_retry_repeats_only_what_has_not_succeeded(new_kind, part, total):
    def whole(self):
        self.children([(part, {"number": number}) for number in range(3)], then=total)

    new_kind(whole)
    part.failing.add(1)
    first = run_job("whole")
    assert first.state == "FAILURE"
    part.failing.clear()
    part.ran.clear()
    second = repeat(first)
    assert (second.state, second.result, part.ran) == ("SUCCESS", 3, [1])
    assert second.children["succeeded"] == 3


def test_a_retry_with_another_list_leaves_what_is_no_part_of_it(new_kind, part, total):
    numbers = [0, 1]

    def whole(self):
        self.children([(part, {"number": number}) for number in numbers], then=total)

    new_kind(whole)
    part.failing.add(1)
    first = run_job("whole")
    part.failing.clear()
    part.ran.clear()
    numbers[:] = [5]
    second = repeat(first)
    assert (second.state, second.result, part.ran) == ("SUCCESS", 5, [5])
    assert Job.objects.filter(parent=first, position=0, state="SUCCESS").exists()


def repeat(job) -> Job:
    """Retry a job in this process."""
    new = jobs.retry(job.owner, job.pk)
    Inline(lambda snapshots: None).run(jobs.kinds()[new.kind], str(new.pk), (), new.params)
    new.refresh_from_db()
    return new


def test_a_later_attempt_does_not_start_again_what_is_there(new_kind, part, total):
    def whole(self):
        self.children([(part, {"number": number}) for number in range(3)], then=total)
        if self.request.attempt == 1:
            raise TryAgain("The network is away.")

    new_kind(whole)
    job = run_job("whole")
    assert (job.state, job.attempt, job.result, part.ran) == ("SUCCESS", 2, 3, [0, 1, 2])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "the list is empty"),
        ([7], "child 0 is 7"),
        ([("part", {}), ("part", {}, 0)], "weight of child 1 is 0"),
        ([("part", {}, math.nan)], "weight of child 0 is nan"),
        ([("part", [])], "child 0 is"),
        ([("part", {}, 1, 2)], "child 0 is"),
    ],
)
def test_a_wrong_list_is_refused_in_words(new_kind, part, given, words):
    def whole(self):
        self.children(given)

    new_kind(whole)
    job = run_job("whole")
    assert job.state == "FAILURE"
    assert words in str(job.exception)
    assert not Job.objects.filter(parent=job).exists()


@pytest.mark.parametrize("given", [("of_another_site", {}), ("part", {"number": "many"})])
def test_a_child_that_cannot_be_started_starts_none(new_kind, part, given):
    def whole(self):
        self.children(["part", given])

    new_kind(whole)
    job = run_job("whole")
    assert isinstance(job.exception, Refused)
    assert not Job.objects.filter(parent=job).exists()


def test_a_child_with_a_file_is_refused_in_words(new_kind, part):
    class WithFile(forms.Form):
        photo = forms.FileField()

    def thumbnail(self, photo):
        """Never called."""

    def whole(self):
        self.children([(thumbnail, {"photo": SimpleUploadedFile("cat.jpg", b"cat")})])

    thumbnail = new_kind(thumbnail, form=WithFile, title="Thumbnail")
    new_kind(whole)
    assert "Let it open that of its parent" in str(run_job("whole").exception)


def test_the_bar_names_the_stage_in_which_the_children_run_and_begins_where_it_begins(new_kind, part):
    def whole(self):
        with self.stage("Read"):
            list(self.track(range(3)))
        with self.stage("Compute"):
            self.children([part, part])

    new_kind(whole, stages=[("Read", 1), ("Compute", 3)])
    job = run_job("whole")
    assert (job.state, job.children["base"]) == ("SUCCESS", 25)
    assert job.snapshots[-1]["stage"] == {"index": 2, "of": 2, "name": "Compute"}
    assert [one["percent"] for one in job.snapshots if (one["percent"] or 0) > 25] == [100]
    assert_truthful(job.snapshots)


def test_a_second_list_is_refused(new_kind, part):
    def whole(self):
        self.children([part])
        self.children([part])

    new_kind(whole)
    assert "one list of children" in str(run_job("whole").exception)


def test_a_task_without_a_job_has_no_children(new_kind, part):
    def whole(self):
        self.children([part])

    with pytest.raises(ValueError, match="runs without a job"):
        new_kind(whole)()


def test_a_last_child_that_fails_fails_the_job_with_its_own_words(new_kind, part):
    def whole(self):
        self.children([part], then=(part, {"number": 9, "fails": True}))

    new_kind(whole)
    job = run_job("whole")
    assert (job.state, job.error) == ("FAILURE", "It cannot be done.")


def test_the_files_of_the_last_child_are_the_jobs(new_kind, part, settings, tmp_path):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "FILES_DIR": str(tmp_path)}

    def archive(self):
        with files.writing(self.request.id) as path:
            path.write_text("all of it")
        return {"file": "all.txt"}

    def whole(self):
        self.children([part], then=archive)

    archive = new_kind(archive, startable=False)
    new_kind(whole)
    job = run_job("whole")
    assert (job.file, job.result) == ("all.txt", {"file": "all.txt"})
    assert files.path_of(str(job.pk)).read_text() == "all of it"
    last = Job.objects.get(parent=job, position=LAST)
    assert (last.file, last.url) == ("", None)


def test_a_child_may_have_children(new_kind, part, total):
    def inner(self):
        self.children([(part, {"number": 1}), (part, {"number": 2})], then=total)

    def outer(self):
        self.children(["inner", "inner"], then=total)

    new_kind(inner)
    new_kind(outer)
    job = run_job("outer")
    assert (job.state, job.result) == ("SUCCESS", 6)
    assert_truthful(job.snapshots)


# In the relay


def parent_of(count, *, then=None, weights=None, base=0.0, owner="visitor-1") -> tuple[Job, list[Job]]:
    """A job that waits for its children."""
    weights = weights or [1.0] * count
    told = {"total": count, "succeeded": 0, "failed": 0, "running": 0, "failures": [], "base": base}
    told["weight"] = sum(weights) + (then["weight"] if then else 0)
    parent = Job.objects.create(
        owner=owner, kind="whole", title="Whole", state=State.PROGRESS, attempt=1, seq=SEQ_PER_ATTEMPT + 1
    )
    Job.objects.filter(pk=parent.pk).update(children=told, then=then, reached=base)
    parent.refresh_from_db()
    children = Job.objects.bulk_create(
        Job(owner=owner, kind="part", title=f"Part {number}", parent=parent, position=number, weight=weight)
        for number, weight in enumerate(weights)
    )
    return parent, children


def progress(child, current, total=100) -> Reply:
    seq = SEQ_PER_ATTEMPT + current
    return Reply(str(child.pk), State.PROGRESS, seq=seq, attempt=1, current=current, total=total, reached=current)


def success(child, result=None) -> Reply:
    return Reply(str(child.pk), State.SUCCESS, attempt=1, result=result)


@pytest.fixture
def moments(monkeypatch):
    """The relay's clock; each look at its news is a second later."""
    clock = itertools.count(1000.0)
    monkeypatch.setattr(parents, "time", SimpleNamespace(monotonic=lambda: next(clock)))


def shown(relay, job) -> list[dict]:
    relay.show_parents()
    frames = [json.loads(one.text) for one in relay.published if one.task_id == str(job.pk)]
    relay.published.clear()
    return frames


def test_the_bar_is_the_sum_of_the_shares(relay, moments):
    parent, (one, two) = parent_of(2, weights=[1.0, 3.0], base=20.0)
    relay._changed(str(parent.pk))
    relay.relay([progress(one, 50), progress(two, 20)])
    (frame,) = shown(relay, parent)[-1:]
    assert frame["percent"] == 20 + 80 * (1 * 50 + 3 * 20) / 400
    assert frame["children"] == {"total": 2, "succeeded": 0, "failed": 0, "running": 2, "failures": []}
    relay.relay([success(two)])
    assert shown(relay, parent)[-1]["percent"] == 20 + 80 * (1 * 50 + 3 * 100) / 400
    relay.relay([success(one)])
    (frame,) = shown(relay, parent)
    assert (frame["state"], frame["percent"], frame["current"], frame["total"]) == ("SUCCESS", 100, 2, 2)
    parent.refresh_from_db()
    assert (parent.state, parent.children["succeeded"]) == ("SUCCESS", 2)


def test_the_bar_does_not_fall_when_a_child_begins_again(relay, moments):
    parent, (one, _) = parent_of(2)
    relay._changed(str(parent.pk))
    relay.relay([progress(one, 50)])
    assert shown(relay, parent)[-1]["percent"] == 25
    one.refresh_from_db()
    Job.objects.filter(pk=one.pk).update(attempt=2, seq=2 * SEQ_PER_ATTEMPT, reached=None)
    relay.relay([Reply(str(one.pk), State.STARTED, seq=2 * SEQ_PER_ATTEMPT + 1, attempt=2)])
    assert shown(relay, parent)[-1]["percent"] == 25


def test_a_relay_that_takes_over_counts_the_same(relay, moments):
    parent, (one, two, three, _) = parent_of(4)
    Job.objects.begin(two.pk, None)  # by a worker
    relay._changed(str(parent.pk))
    relay.relay([success(one), progress(two, 50), Reply(str(three.pk), State.FAILURE, attempt=1, error="No.")])
    before = shown(relay, parent)[-1]
    relay.cache.clear()  # it saves the percentages, and forgets
    relay.parents.clear()
    after = shown(relay, parent)[-1]
    same = ("percent", "children", "current", "total")
    assert {name: before[name] for name in same} == {name: after[name] for name in same}
    assert before["children"] == {"total": 4, "succeeded": 1, "failed": 1, "running": 1, "failures": ["Part 2"]}


def test_replies_that_come_twice_count_once(relay, moments):
    parent, (one, two) = parent_of(2)
    relay._changed(str(parent.pk))
    for _ in range(2):
        relay.relay([success(one)])
    assert shown(relay, parent)[-1]["children"]["succeeded"] == 1
    relay.relay([success(two)])
    assert shown(relay, parent)[-1]["state"] == "SUCCESS"


def test_a_parent_is_found_without_a_notice_and_after_its_children_have_ended(relay, moments):
    parent, (one,) = parent_of(1)
    relay.relay([success(one)])
    assert shown(relay, parent)[-1]["state"] == "SUCCESS"


def test_the_last_child_is_started_once_by_two_relays(relay, moments, new_kind):
    def finish(self):
        """Never called."""

    new_kind(finish, title="Finish")
    parent, (one,) = parent_of(1, then={"kind": "finish", "params": {}, "weight": 1.0})
    other = Relay(lambda snapshots: None)
    sent = []
    relay.parents.send = other.parents.send = sent.append
    relay.relay([success(one)])
    for each in (relay, other):
        each.show_parents()
    (last,) = sent
    assert (last.position, last.title, last.owner, last.by_site) == (LAST, "Finish", "visitor-1", True)
    relay.published.clear()
    relay.relay([success(last, result=42)])
    frame = shown(relay, parent)[-1]
    assert (frame["state"], frame["result"], frame["percent"]) == ("SUCCESS", 42, 100)


def test_a_last_child_that_cannot_be_started_fails_the_job(relay, moments):
    parent, (one,) = parent_of(1, then={"kind": "of_another_release", "params": {}, "weight": 1.0})
    relay.relay([success(one)])
    relay.show_parents()
    assert shown(relay, parent)[-1]["state"] == "FAILURE"


def test_a_child_that_is_cancelled_by_itself_is_counted(relay, moments):
    parent, (one, two) = parent_of(2)
    relay._changed(str(parent.pk))
    jobs.cancel("visitor-1", one.pk)
    relay._changed(str(one.pk))  # what `announce` has posted
    relay.relay([success(two)])
    frame = shown(relay, parent)[-1]
    assert (frame["state"], frame["error"]) == ("FAILURE", "1 of 2 parts failed: Part 0.")


def test_a_child_that_is_deleted_is_counted(relay, moments):
    parent, (one, two) = parent_of(2)
    relay._changed(str(parent.pk))
    one.delete()
    relay._changed(str(parent.pk))  # what the deletion has posted
    relay.relay([success(two)])
    assert shown(relay, parent)[-1]["error"] == "1 of 2 parts failed: one that was deleted."


def test_a_cancel_reaches_all_children(relay, moments):
    parent, (waits, runs, ended) = parent_of(3)
    Job.objects.filter(pk=runs.pk).update(attempt=1, state=State.PROGRESS, lease=worker().pk)
    relay.relay([success(ended)])
    told = shown(relay, parent)[-1]
    assert jobs.cancel("visitor-1", parent.pk).cancelling
    relay._changed(str(parent.pk))  # what `announce` has posted
    frame = shown(relay, parent)[-1]
    assert (frame["state"], frame["percent"]) == ("REVOKED", told["percent"])
    assert frame["seq"] > told["seq"]
    states = {one.pk: (one.state, one.cancelled_at is not None) for one in Job.objects.filter(parent=parent)}
    assert states == {waits.pk: ("REVOKED", True), runs.pk: ("PROGRESS", True), ended.pk: ("SUCCESS", False)}
    assert relay.parents.known == {}


def test_what_is_read_anew_is_newer_than_what_was_told(relay, moments):
    parent, (one, _) = parent_of(2)
    Job.objects.begin(one.pk, None)  # by a worker
    relay._changed(str(parent.pk))
    relay.relay([progress(one, 50)])
    told = [shown(relay, parent)[-1]]
    for current in (60, 70, 80):
        relay.relay([progress(one, current)])
        relay.parents.read(parent.pk)
        told += shown(relay, parent)
    assert [one["percent"] for one in told] == [25, 30, 35, 40]
    assert [one["seq"] for one in told] == sorted({one["seq"] for one in told})


def test_children_of_a_job_that_has_failed_are_cancelled_by_the_relay(relay, moments):
    parent, _ = parent_of(2)
    parent.end(State.FAILURE, error="No.")
    parent.save_end()
    relay.show_parents()
    assert {child.state for child in Job.objects.filter(parent=parent)} == {"REVOKED"}


def test_a_delivery_of_a_job_that_waits_for_its_children_is_a_duplicate():
    parent, _ = parent_of(1)
    assert Job.objects.begin(parent.pk, None) is None


def test_a_bad_child_or_parent_holds_up_no_other(relay, moments, caplog):
    bad, (child,) = parent_of(1)
    good, (one,) = parent_of(1)
    Job.objects.filter(pk=bad.pk).update(children={"total": "many"})
    relay.relay([success(child), success(one)])
    assert shown(relay, good)[-1]["state"] == "SUCCESS"
    assert f"The children of job {bad.pk} cannot be read" in caplog.text


def test_ten_thousand_children_cost_their_parent_little(relay, monkeypatch, django_assert_max_num_queries):
    """Reports of all children in ten seconds of the relay's clock: frames and writes of the parent are counted."""
    parent, children = parent_of(10_000)
    clock = iter([1000.0 + number / 100 for number in range(1, 1100)])
    monkeypatch.setattr(parents, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    relay._changed(str(parent.pk))
    saves, save = [], Job.save_as_parent
    monkeypatch.setattr(Job, "save_as_parent", lambda self: saves.append(1) or save(self))
    frames = []
    for start in range(0, 10_000, 10):
        relay.relay([success(child) for child in children[start : start + 10]])
        frames += shown(relay, parent)
    assert (frames[-1]["state"], frames[-1]["children"]["succeeded"]) == ("SUCCESS", 10_000)
    assert 50 < len(frames) <= 200
    assert len(saves) <= 11
    assert [one["percent"] for one in frames] == sorted(one["percent"] for one in frames)


# On pages


async def test_a_page_is_shown_the_parent_and_not_its_children(socket, owner, the_hub):
    parent, (child, _) = await in_thread(partial(parent_of, owner=owner.owner), 2)
    page = await socket(client=owner)
    frame = await page.frame()
    assert (frame["task_id"], frame["children"]["total"]) == (str(parent.pk), 2)
    assert await page.receive_nothing()
    part = await socket(f"/ws/task_status/{child.pk}/", client=owner)
    assert (await part.frame())["parent"] == str(parent.pk)
    child.state, child.seq = State.PROGRESS, 5
    the_hub.publish([Snapshot.of(child)])
    await part.until(state="PROGRESS")
    assert await page.receive_nothing()


async def test_children_that_nobody_watches_are_not_remembered(the_hub):
    _, children = await in_thread(parent_of, 3)
    the_hub.publish([Snapshot.of(child) for child in children])
    assert not the_hub.newest


def test_the_api_lists_parents_and_on_request_the_children_of_one(owner):
    parent, children = parent_of(2, owner=owner.owner)
    assert [one["task_id"] for one in owner.get("/api/jobs/").json()["results"]] == [str(parent.pk)]
    listed = owner.get("/api/jobs/", {"parent": str(parent.pk)}).json()["results"]
    assert {one["task_id"] for one in listed} == {str(child.pk) for child in children}
    assert owner.get("/api/jobs/", {"parent": "none"}).json()["results"] == []


def worker() -> Worker:
    return Worker.objects.create(host="w1@test", pool="prefork", slots=2)


def test_an_outage_of_the_database_while_children_are_started_or_read_is_waited_for(new_kind, part, monkeypatch):
    """It had ended the parent, and cancelled those that had been started."""
    monkeypatch.setattr("livejobs.outage.RETRY_AFTER", 0)
    failed, run_child = set(), Inline.run_child

    def flaky(execute, sql, *rest):
        if sql not in failed:
            failed.add(sql)
            raise OperationalError("away")
        return execute(sql, *rest)

    def whole(self):
        with connection.execute_wrapper(flaky):
            self.children([(part, {"number": number}) for number in range(3)], then="total")

    def run_with_database(inline, child):
        wrappers, connection.execute_wrappers = connection.execute_wrappers, []
        run_child(inline, child)
        connection.execute_wrappers = wrappers

    def total(self):
        with connection.execute_wrapper(flaky):
            return sum(self.results()) + self.parent.children["total"]

    monkeypatch.setattr(Inline, "run_child", run_with_database)
    new_kind(whole)
    new_kind(total, startable=False)
    job = run_job("whole")
    assert (job.state, job.result) == ("SUCCESS", 6)
    assert {sql.split()[0] for sql in failed} >= {"SELECT", "INSERT"}
    assert len(failed) >= 5


def test_children_that_were_prepared_long_ago_are_not_due_yet(new_kind, part, monkeypatch):
    """The sweep would send them beside their parent, which is about to do so."""
    prepare = new_job.prepare

    def long_ago(*args, **kwargs):
        child = prepare(*args, **kwargs)
        child.sent_at -= timedelta(minutes=5)
        return child

    def whole(self):
        self.children([(part, {"number": 1})])

    monkeypatch.setattr(new_job, "prepare", long_ago)
    new_kind(whole)
    began = timezone.now()
    run_job("whole")
    assert Job.objects.get(position=0).sent_at >= began
