import html
import re
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from django.views.defaults import permission_denied, server_error

import livejobs
from HomeApp.models import User
from livejobs.backend import REPLY_QUEUE
from livejobs.models import FINAL, Job, RelayLease, State, Worker
from livejobs.owner import VISITOR, owner_of, page_owner

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


def test_a_page_names_its_owner(client, owner, another_user):
    for visitor in (client, owner, another_user):
        page = visitor.get("/").content.decode()
        assert f'data-owner="{page_owner(owner_of(visitor.session))}"' in page
    assert 'data-owner=""' in Client().get("/login/").content.decode()


def test_home_is_not_cached(client):
    assert "no-store" in client.get("/")["Cache-Control"]


def test_healthz_tells_of_the_database(client, monkeypatch):
    assert client.get("/healthz").status_code == 200

    def refuse():
        raise OperationalError

    monkeypatch.setattr(connection, "ensure_connection", refuse)
    assert client.get("/healthz").status_code == 503


READY = {"database": "ok", "broker": "ok", "layer": "ok", "migrations": "ok", "relay": "ok", "workers": "ok"}


@pytest.fixture
async def ready(the_hub, transactional_db):
    """All that jobs need."""
    await RelayLease.objects.acreate(queue=REPLY_QUEUE.name, holder=uuid.uuid4())
    await Worker.objects.acreate(host="w1@test", pool="prefork", slots=1)


async def test_readyz_tells_that_all_is_there(ready, async_client):
    answer = await async_client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, READY)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("relay", "no process relays: start a web process, or manage.py run_relay"),
        ("workers", "no worker is alive"),
        ("layer", "away: group_send"),
        ("broker", "away: ConnectionRefusedError"),
        ("migrations", "1 are not applied: run manage.py migrate"),
    ],
)
async def test_readyz_names_what_is_missing(ready, async_client, monkeypatch, the_hub, part, told):
    if part == "relay":
        await RelayLease.objects.aupdate(holder=None)
    elif part == "workers":
        await Worker.objects.aupdate(state=Worker.State.GONE)
    elif part == "layer":
        the_hub.layer.failing.add("group_send")
    elif part == "broker":
        monkeypatch.setattr("kombu.Connection.connect", raiser(ConnectionRefusedError("amqp://guest:secret@rabbit")))
    else:
        monkeypatch.setattr("livejobs.readiness.MigrationExecutor.migration_plan", lambda self, targets: ["0003"])
    answer = await async_client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {**READY, part: told})


async def test_readyz_does_not_ask_a_database_that_is_away_again(ready, async_client, monkeypatch):
    monkeypatch.setattr("livejobs.readiness._database", raiser(OperationalError("password")))
    told = (await async_client.get("/readyz")).json()
    assert told["database"] == "away: OperationalError"
    assert {told[part] for part in ("migrations", "relay", "workers")} == {"unknown: the database is away"}


def raiser(problem):
    def fail(*args, **kwargs):
        raise problem

    return fail


SITE = ["search.js", "signup.js", "style.css", "icon.svg"]
ENGINE = sorted(path.name for path in (Path(livejobs.__file__).parent / "static" / "livejobs").iterdir())


@pytest.mark.parametrize("path", [f"HomeApp/{name}" for name in SITE] + [f"livejobs/{name}" for name in ENGINE])
def test_static_files_are_served_without_collectstatic(client, path):
    with closing(client.get(f"/static/{path}")) as response:
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": State.PENDING}, "Waiting for a worker. No worker is running."),
        ({"state": State.PROGRESS, "attempt": 2, "description": "Packing."}, "Running, attempt 2. Packing."),
        ({"state": State.PROGRESS, "cancelled_at": timezone.now()}, "Cancelling…"),
        (
            {"state": State.RETRY, "error": "Busy."},
            "Busy. The job will begin again. Waiting for a worker. No worker is running.",
        ),
        ({"state": State.SUCCESS, "result": 168}, "Done. The answer is 168."),
        ({"state": State.SUCCESS, "result": {"summary": "Rows: 2."}}, "Done. Rows: 2."),
        ({"state": State.SUCCESS, "result": 5.0}, "Done. The answer is 5."),
        ({"state": State.SUCCESS, "result": {"rows": 2}}, "Done."),
        ({"state": State.FAILURE, "current": 29.9, "total": 100, "error": "In vain."}, "Failed at 29%. In vain."),
        ({"state": State.REVOKED}, "Cancelled."),
    ],
)
def test_my_jobs_are_told_in_the_words_of_the_bars(owner, fields, words):
    finished_at = timezone.now() if fields["state"] in FINAL else None
    Job.objects.create(owner=owner.owner, kind="count_primes", finished_at=finished_at, **fields)
    page = " ".join(owner.get("/jobs/").content.decode().split())
    assert f'<span class="words"> {words} </span>' in page


def test_my_jobs_draw_results_as_tables(owner):
    job = Job(owner=owner.owner, kind="count_primes", title="Primes")
    job.end(State.SUCCESS, result={"rows": 2})
    job.save()
    assert "<tr><td>rows</td><td>2</td></tr>" in owner.get("/jobs/").content.decode()


@pytest.mark.parametrize(
    ("fields", "bar"),
    [
        ({"state": State.PENDING}, '<progress max="100" value="0"'),
        ({"state": State.STARTED}, '<progress max="100" aria-label'),
        ({"state": State.PROGRESS}, '<progress max="100" aria-label'),
        ({"state": State.PROGRESS, "current": 1, "total": 4}, '<progress max="100" value="25"'),
        ({"state": State.FAILURE, "finished_at": timezone.now()}, '<progress max="100" value="0"'),
    ],
)
def test_my_jobs_draw_an_unknown_percentage_of_a_running_job_as_such(owner, fields, bar):
    Job.objects.create(owner=owner.owner, kind="count_primes", **fields)
    assert bar in owner.get("/jobs/").content.decode()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["Export", "Primes below 7", "Primes below 5"]),
        ({"words": "primes"}, ["Primes below 7", "Primes below 5"]),
        ({"state": "waiting"}, ["Primes below 7"]),
        ({"state": "cancelled"}, []),
        ({"state": "done", "kind": "count_primes"}, ["Primes below 5"]),
        ({"kind": "export_jobs"}, ["Export"]),
        ({"state": "no such state"}, ["Export", "Primes below 7", "Primes below 5"]),
    ],
)
def test_my_jobs_are_filtered_by_title_state_and_kind(owner, asked, found):
    ended = {"state": State.SUCCESS, "finished_at": timezone.now()}
    exported = {"kind": "export_jobs"} | ended
    for title, fields in (("Primes below 5", ended), ("Primes below 7", {}), ("Export", exported)):
        Job.objects.create(**{"owner": owner.owner, "kind": "count_primes", "title": title} | fields)
    page = owner.get("/jobs/", asked).content.decode()
    assert re.findall(r"<h2><a .*?>(.*?)</a>", page) == found
    assert ("is not one of the available choices" in page) == ("no such state" in asked.values())
    assert ("No job is like this." in page) == (not found)


def test_the_pages_of_filtered_jobs_are_filtered_too(owner):
    for _ in range(60):
        Job.objects.create(owner=owner.owner, kind="count_primes", title="Primes")
    page = html.unescape(owner.get("/jobs/", {"words": "prim", "page": 2}).content.decode())
    assert "?words=prim&page=1" in page
    assert "?words=prim&page=3" in page


def test_errors_have_pages_of_the_site(client):
    assert "There is nothing here" in client.get("/no/such/page/").content.decode()
    strict = Client(enforce_csrf_checks=True)
    refused = strict.post("/login/", {"username": "ada"})
    assert refused.status_code == 403
    assert "This was not sent" in refused.content.decode()
    request = client.get("/").wsgi_request
    assert "You may not do this" in permission_denied(request, PermissionDenied()).content.decode()
    assert "Something is broken" in server_error(request).content.decode()
