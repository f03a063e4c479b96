"""Retention: what is stored of a job goes some time after its end."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from HomeApp.models import SearchResult
from livejobs import jobs, prune
from livejobs.models import Job, State

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture(autouse=True)
def files(settings, tmp_path):
    """The folder of files."""
    settings.LIVEJOBS = {**settings.LIVEJOBS, "FILES_DIR": tmp_path, "KEEP_DAYS": 30}
    return tmp_path


def job(days, **fields):
    """Return a job that ended some days ago."""
    ended = {"state": State.SUCCESS, "finished_at": NOW - timedelta(days=days)} if days is not None else {}
    return Job.objects.create(owner="visitor-1", kind="search", title="Search", **ended, **fields)


def test_old_jobs_go_with_all_that_is_stored_of_them(files):
    old, recent, unfinished = job(31, file="rows.csv"), job(29), job(None)
    SearchResult.objects.create(job=old, position=0, title="One", url="", content="")
    (files / str(old.pk)).write_text("rows")
    assert prune.prune(NOW) == (1, 1)
    assert set(Job.objects.values_list("pk", flat=True)) == {recent.pk, unfinished.pk}
    assert not SearchResult.objects.exists()
    assert not list(files.iterdir())


def test_many_jobs_go_in_batches(monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr(prune, "BATCH", 10)
    for _ in range(35):
        job(31)
    with django_assert_max_num_queries(60):
        assert prune.prune(NOW)[1] == 35


def test_a_job_that_a_younger_one_repeats_goes_too():
    old = job(31)
    young = job(1, retry_of=old)
    prune.prune(NOW)
    young.refresh_from_db()
    assert young.retry_of is None


def test_no_page_and_no_broker_is_told(monkeypatch, django_capture_on_commit_callbacks):
    told = []
    monkeypatch.setattr(jobs.notice, "post", lambda *args, **about: told.append(about))
    job(31)
    with django_capture_on_commit_callbacks(execute=True):
        prune.prune(NOW)
    assert told == []


def test_jobs_may_be_kept_for_ever(settings):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "KEEP_DAYS": None}
    job(10_000)
    assert prune.prune(NOW) == (0, 0)


def test_the_command_says_how_much(capsys):
    job(31)
    call_command("prune_jobs")
    assert capsys.readouterr().out == "Files deleted: 0. Jobs deleted: 1.\n"
