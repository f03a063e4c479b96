from contextlib import closing

import pytest
from django.contrib.staticfiles import finders
from django.db import OperationalError, connection
from django.utils import timezone

from HomeApp.models import FINAL, Job, State, User
from HomeApp.owner import VISITOR, owner_of

pytestmark = pytest.mark.django_db


def test_home_has_start_and_the_bar(client):
    page = client.get("/").content.decode()
    for part in ('id="button_startAction"', '<progress id="progress_bar"', 'id="div_progress_val"'):
        assert part in page


def test_jquery_comes_from_its_cdn_checked_and_with_djangos_own_copy_behind_it(client):
    page = client.get("/").content.decode()
    assert "https://code.jquery.com/" in page
    assert 'integrity="sha256-' in page
    assert 'crossorigin="anonymous"' in page
    assert 'data-fallback="/static/admin/js/vendor/jquery/jquery.min.js"' in page
    assert finders.find("admin/js/vendor/jquery/jquery.min.js")


def test_a_visitor_stays_the_same_owner(client):
    client.get("/")
    first = client.session[VISITOR]
    client.get("/")
    assert client.session[VISITOR] == first == owner_of(client.session)


def test_two_visitors_are_two_owners(owner, client):
    client.get("/")
    assert owner_of(client.session) != owner_of(owner.session)


def test_a_user_owns_as_that_user_in_every_session(client, another_user):
    user = User.objects.get(username="another")
    client.force_login(user)
    client.get("/")
    assert owner_of(client.session) == owner_of(another_user.session) == f"user-{user.pk}"


def test_a_session_that_is_nobodys_owns_nothing(client):
    assert owner_of(client.session) is None


def test_home_is_not_cached(client):
    assert "no-store" in client.get("/")["Cache-Control"]


def test_healthz_tells_of_the_database(client, monkeypatch):
    assert client.get("/healthz").status_code == 200

    def refuse():
        raise OperationalError

    monkeypatch.setattr(connection, "ensure_connection", refuse)
    assert client.get("/healthz").status_code == 503


def test_the_admin_reads_the_traceback_and_changes_nothing(admin_client):
    job = Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes")
    job.end(State.FAILURE, error="Sorry.", traceback="Traceback: line 7")
    job.save_end()
    assert "Primes" in admin_client.get("/admin/HomeApp/job/").content.decode()
    assert "line 7" in admin_client.get(f"/admin/HomeApp/job/{job.pk}/change/").content.decode()
    assert admin_client.post(f"/admin/HomeApp/job/{job.pk}/change/", {"state": "SUCCESS"}).status_code == 403
    assert admin_client.get("/admin/HomeApp/job/add/").status_code == 403


@pytest.mark.parametrize("path", ["home.js", "bar.js", "socket.js", "jquery.js", "style.css", "icon.svg"])
def test_static_files_are_served_without_collectstatic(client, path):
    with closing(client.get(f"/static/HomeApp/{path}")) as response:
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": State.PENDING}, "Waiting for a worker."),
        ({"state": State.PROGRESS, "attempt": 2, "description": "Packing."}, "Running, attempt 2. Packing."),
        ({"state": State.PROGRESS, "cancelled_at": timezone.now()}, "Cancelling…"),
        ({"state": State.RETRY, "error": "Busy."}, "Busy. It will be tried again."),
        ({"state": State.SUCCESS, "result": 168}, "Done. The answer is 168."),
        ({"state": State.SUCCESS, "result": {"summary": "Rows: 2."}}, "Done. Rows: 2."),
        ({"state": State.FAILURE, "current": 29.9, "total": 100, "error": "In vain."}, "Failed at 29%. In vain."),
        ({"state": State.REVOKED}, "Cancelled."),
    ],
)
def test_my_jobs_are_told_in_the_words_of_the_bars(owner, fields, words):
    finished_at = timezone.now() if fields["state"] in FINAL else None
    Job.objects.create(owner=owner.owner, kind="count_primes", finished_at=finished_at, **fields)
    page = " ".join(owner.get("/jobs/").content.decode().split())
    assert f'<p class="words"> {words} </p>' in page


@pytest.mark.parametrize(
    ("fields", "bar"),
    [
        ({"state": State.PENDING}, '<progress max="100" value="0"'),
        ({"state": State.STARTED}, '<progress max="100" aria-label'),
        ({"state": State.PROGRESS}, '<progress max="100" aria-label'),
        ({"state": State.PROGRESS, "current": 1, "total": 4}, '<progress max="100" value="25.0"'),
        ({"state": State.FAILURE, "finished_at": timezone.now()}, '<progress max="100" value="0"'),
    ],
)
def test_my_jobs_draw_an_unknown_percentage_of_a_running_job_as_such(owner, fields, bar):
    Job.objects.create(owner=owner.owner, kind="count_primes", **fields)
    assert bar in owner.get("/jobs/").content.decode()
