import json
import uuid

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.layers import channel_layers
from django.contrib.auth import get_user_model
from django.test import Client

from conftest import Socket
from livejobs import place
from livejobs.api.views import SnapshotSerializer
from livejobs.hub import hub
from livejobs.models import Job
from testkit.api import SHAPE, bearer, post, told

pytestmark = pytest.mark.django_db


@pytest.fixture
def user():
    return get_user_model().objects.create_user(username="ada", email="ada@example.org", password="a long secret")


# jobs/

START = {"kind": "count_primes", "params": {"below": 1000}}


def csrf(client) -> dict:
    return {"X-CSRFToken": client.cookies["csrftoken"].value}


def make(owner, **fields) -> Job:
    return Job.objects.create(owner=owner, kind="count_primes", title="Primes", **fields)


def as_told(job) -> dict:
    place.fill_in([job])
    return json.loads(json.dumps(job.snapshot()))


def test_a_start_is_answered_with_the_snapshot(owner):
    ref = str(uuid.uuid4())
    response = post(owner, "/api/jobs/", {**START, "ref": ref})
    assert response.status_code == 201
    job = Job.objects.get(owner=owner.owner)
    assert response.json() == json.loads(json.dumps(job.snapshot()))
    assert (response.json()["ref"], response.json()["title"]) == (ref, "Primes below 1000")


def test_the_same_ref_again_starts_nothing(owner):
    ref = str(uuid.uuid4())
    answers = [post(owner, "/api/jobs/", {**START, "ref": ref}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json()["task_id"] == answers[1].json()["task_id"]
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ([], "bad_body", None),
        ({}, "unknown_kind", "kind"),
        ({"kind": ["count_primes"]}, "unknown_kind", "kind"),
        ({**START, "params": []}, "bad_params", "params"),
        ({**START, "params": {"below": 12}}, "bad_params", "below"),
        ({**START, "params": {"above": 12}}, "bad_params", "above"),
        ({**START, "ref": 7}, "bad_ref", "ref"),
    ],
)
def test_a_bad_start_is_told_and_starts_nothing(owner, body, code, field):
    assert told(post(owner, "/api/jobs/", body), 400, code)["field"] == field
    assert not Job.objects.exists()


def test_too_many_jobs_are_refused(owner, settings):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "UNFINISHED_PER_OWNER": 1}
    assert post(owner, "/api/jobs/", START).status_code == 201
    told(post(owner, "/api/jobs/", START), 429, "too_many_jobs")


def test_a_job_started_here_is_shown_on_the_owners_sockets(owner, another_user):
    async def show():
        channel_layers.backends.clear()
        await hub.open()
        mine, others = Socket(client=owner), Socket(client=another_user)
        for one in (mine, others):
            await one.connect()
        answer = await sync_to_async(post)(owner, "/api/jobs/", START)
        assert await mine.frame() == answer.json()
        assert await others.receive_nothing()
        for one in (mine, others):
            await one.disconnect()
        await hub.close()

    async_to_sync(show)()


def test_my_jobs_come_newest_first_and_page_by_page(owner, another_user):
    ids = [str(make(owner.owner).pk) for _ in range(52)][::-1]
    make("user-" + another_user.session["_auth_user_id"])
    first = owner.get("/api/jobs/").json()
    assert first["count"] == 52
    assert first["previous"] is None
    second = owner.get(first["next"]).json()
    assert second["next"] is None
    assert [job["task_id"] for job in first["results"] + second["results"]] == ids
    told(owner.get("/api/jobs/?page=3"), 404, "not_found")
    assert owner.get("/api/jobs/").headers["Cache-Control"].count("no-store") == 1


def test_a_jobs_address_tells_the_snapshot_to_its_owner_alone(owner, another_user, stranger):
    job = make(owner.owner)
    path = f"/api/jobs/{job.pk}/"
    assert owner.get(path).json() == as_told(job)
    unknown = owner.get(f"/api/jobs/{uuid.uuid4()}/")
    told(unknown, 404, "not_found")
    for other in (another_user, stranger):
        assert other.get("/api/jobs/").json()["results"] == []
        for wrong in (path, "/api/jobs/1/"):
            answer = other.get(wrong)
            assert (answer.status_code, answer.content) == (404, unknown.content)


def test_the_schema_tells_the_snapshots_shape():
    assert list(SnapshotSerializer().fields) == list(Job().snapshot())


def test_a_stranger_who_starts_a_job_becomes_a_visitor_and_must_guard_the_session():
    stranger = Client(enforce_csrf_checks=True)
    assert stranger.get("/api/jobs/").json()["count"] == 0
    assert not stranger.cookies
    assert post(stranger, "/api/jobs/", START).status_code == 201
    told(post(stranger, "/api/jobs/", START), 403, "permission_denied")
    assert post(stranger, "/api/jobs/", START, **csrf(stranger)).status_code == 201
    assert stranger.get("/api/jobs/").json()["count"] == 2


def test_a_users_session_needs_the_token_and_a_jwt_does_not(user):
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    told(post(client, "/api/jobs/", START), 403, "permission_denied")
    client.get("/api/jobs/")
    assert post(client, "/api/jobs/", START, **csrf(client)).status_code == 201
    assert post(client, "/api/jobs/", START, **bearer(client, user)).status_code == 201
    assert client.get("/api/jobs/").json()["count"] == 2


def test_a_jwt_speaks_for_its_user_whatever_the_session(owner, user):
    post(owner, "/api/jobs/", START)
    headers = bearer(owner, user)
    assert owner.get("/api/jobs/", headers=headers).json()["count"] == 0
    assert post(owner, "/api/jobs/", START, **headers).status_code == 201
    told = owner.get("/api/jobs/", headers=headers).json()["results"]
    assert told == [as_told(Job.objects.get(owner=f"user-{user.pk}"))]


@pytest.mark.parametrize("end", ["logged out", "new password", "inactive", "gone"])
def test_a_jwt_that_is_worth_nothing_is_told(client, user, end):
    headers = bearer(client, user)
    assert client.get("/api/jobs/", headers=headers).status_code == 200
    if end == "new password":
        user.set_password("another secret")
        user.save()
    elif end == "inactive":
        user.is_active = False
        user.save()
    elif end == "gone":
        user.delete()
    else:
        headers = {"Authorization": "Bearer x"}
    response = client.get("/api/jobs/", headers=headers)
    assert response.status_code == 401
    assert set(response.json()) == SHAPE
    assert post(client, "/api/jobs/", START, **headers).status_code == 401


# jobs/<id>/cancel/ and retry/


def test_a_waiting_job_is_cancelled_and_repeated(owner):
    first = post(owner, "/api/jobs/", START).json()
    cancelled = post(owner, f"/api/jobs/{first['task_id']}/cancel/", {})
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "REVOKED")
    told(post(owner, f"/api/jobs/{first['task_id']}/cancel/", {}), 409, "already_ended")
    again = post(owner, f"/api/jobs/{first['task_id']}/retry/", {})
    assert (again.status_code, again.json()["title"]) == (201, first["title"])
    assert again.json()["task_id"] != first["task_id"]
    told(post(owner, f"/api/jobs/{again.json()['task_id']}/retry/", {}), 409, "not_to_be_repeated")


def test_the_same_ref_repeats_a_job_once(owner):
    first = post(owner, "/api/jobs/", START).json()
    post(owner, f"/api/jobs/{first['task_id']}/cancel/", {})
    path, ref = f"/api/jobs/{first['task_id']}/retry/", {"ref": str(uuid.uuid4())}
    once, twice = post(owner, path, ref), post(owner, path, ref)
    assert (once.status_code, twice.status_code) == (201, 200)
    assert once.json()["task_id"] == twice.json()["task_id"]
    told(post(owner, path, {"ref": "no uuid"}), 400, "bad_ref")


@pytest.mark.parametrize("what", ["cancel", "retry"])
def test_nobody_else_cancels_or_repeats_a_job(owner, another_user, stranger, what):
    job = make(owner.owner)
    unknown = post(owner, f"/api/jobs/{uuid.uuid4()}/{what}/", {})
    told(unknown, 404, "not_found")
    for client in (another_user, stranger):
        answer = post(client, f"/api/jobs/{job.pk}/{what}/", {})
        assert (answer.status_code, answer.content) == (404, unknown.content)
    job.refresh_from_db()
    assert job.state == "PENDING"


@pytest.mark.parametrize("what", ["cancel", "retry"])
def test_a_session_must_be_guarded_to_cancel_or_repeat(what):
    client = Client(enforce_csrf_checks=True)
    job = post(client, "/api/jobs/", START).json()
    told(post(client, f"/api/jobs/{job['task_id']}/{what}/", {}), 403, "permission_denied")
