"""Signing up over the API, and the pages around it."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.db import connections
from django.test import Client
from redis import RedisError

from HomeApp import signup
from HomeApp.models import User
from livejobs.models import Job
from livejobs.owner import owner_of

pytestmark = pytest.mark.django_db(transaction=True)

ADA = {"username": "ada", "email": "ada@example.org", "password": "the analytical engine"}


@pytest.fixture(autouse=True)
def _nobody_has_signed_up_lately():
    cache.clear()


@pytest.fixture
def sent(monkeypatch) -> list[tuple]:
    """The welcome e-mails' tasks, each with whether its user and its job were committed when it was sent."""
    tasks = []

    def look(task_id, user_id):
        with ThreadPoolExecutor(1) as elsewhere:  # a thread has a connection of its own, and sees what is committed
            try:
                return elsewhere.submit(seen, task_id, user_id).result()
            finally:
                elsewhere.submit(connections.close_all).result()

    def seen(task_id, user_id):
        return User.objects.filter(pk=user_id).exists() and Job.objects.filter(pk=task_id).exists()

    def send(self, kwargs, task_id, **options):
        tasks.append((task_id, kwargs, look(task_id, kwargs["user_id"])))

    monkeypatch.setattr("livejobs.task.JobTask.apply_async", send)
    return tasks


def sign_up(client, headers=None, **changes):
    data = {name: value for name, value in {**ADA, **changes}.items() if value is not ...}
    token = {"X-CSRFToken": client.cookies["csrftoken"].value} if "csrftoken" in client.cookies else {}
    return client.post(
        "/api/users/", json.dumps(data), content_type="application/json", headers={**token, **(headers or {})}
    )


def fields(response) -> dict:
    assert response.status_code == 400, response.content
    return response.json()["fields"]


def test_a_sign_up_makes_an_ordinary_user_and_a_job(client, sent):
    response = sign_up(client, is_staff=True, is_superuser=True, id=7)
    user, job = User.objects.get(), Job.objects.get()
    assert response.status_code == 201
    expected = {"id": user.pk, "username": "ada", "email": "ada@example.org", "task_id": str(job.pk)}
    assert response.json() == expected
    assert (user.is_active, user.is_staff, user.is_superuser) == (True, False, False)
    assert user.check_password(ADA["password"])
    assert (job.kind, job.title, job.owner) == ("welcome_email", "Welcome e-mail", owner_of(client.session))


def test_the_task_is_sent_once_its_rows_are_committed_and_knows_no_secret(client, sent):
    sign_up(client)
    job, user = Job.objects.get(), User.objects.get()
    assert sent == [(str(job.pk), {"user_id": user.pk}, True)]
    assert job.params == {"user_id": user.pk}


def test_signing_up_logs_nobody_in(client, sent):
    sign_up(client)
    assert owner_of(client.session).startswith("visitor-")


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"email": ...}, "email", "required"),
        ({"email": ""}, "email", "blank"),
        ({"email": "ada"}, "email", "valid email"),
        ({"email": "adä@example.org"}, "email", "valid email"),
        ({"email": "\u017fam@example.org"}, "email", "valid email"),
        ({"email": "a@b@c.org"}, "email", "valid email"),
        ({"email": "ada@example.org\nBcc: all@example.org"}, "email", "valid email"),
        ({"email": ["ada@example.org"]}, "email", "valid email"),
        ({"email": f"ada@{'e' * 260}.org"}, "email", "254"),
        ({"username": ...}, "username", "required"),
        ({"username": " "}, "username", "blank"),
        ({"username": "ada lovelace"}, "username", "valid username"),
        ({"username": "аda"}, "username", "valid username"),  # noqa: RUF001
        ({"username": "a" * 151}, "username", "150"),
        ({"username": {"a": 1}}, "username", "string"),
        ({"username": None}, "username", "null"),
        ({"password": ...}, "password", "required"),
        ({"password": "Xq7-b"}, "password", "too short"),
        ({"password": "password"}, "password", "too common"),
        ({"password": "8461937205"}, "password", "entirely numeric"),
        ({"username": "adalovelace", "password": "adalovelace1"}, "password", "similar to the user name"),
        ({"email": "countess@example.org", "password": "countess@exam"}, "password", "similar to the email address"),
        ({"password": "x" * 129}, "password", "128"),
        ({"password": "null\0character"}, "password", "Null"),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_nothing_is_made(client, sent, changes, field, problem):
    told = fields(sign_up(client, **changes))
    assert list(told) == [field]
    assert problem in " ".join(told[field])
    assert not User.objects.exists()
    assert not Job.objects.exists()


def test_every_field_is_told_at_once(client):
    told = fields(sign_up(client, username="a b", email="?", password="short"))
    assert set(told) == {"username", "email", "password"}
    assert len(told["password"]) == 1


@pytest.mark.parametrize(("field", "value"), [("username", "ADA"), ("email", "Ada@EXAMPLE.org")])
def test_name_and_address_are_unique_whatever_their_case(client, sent, field, value):
    assert sign_up(client).status_code == 201
    other = {"username": "grace", "email": "grace@example.org", field: value}
    assert list(fields(sign_up(Client(), **other))) == [field]
    assert User.objects.count() == 1


def test_an_international_domain_is_one_however_it_is_written(client, sent):
    assert sign_up(client, email="ada@bücher.example").json()["email"] == "ada@xn--bcher-kva.example"
    for email in ("ada@BÜCHER.example", "ada@xn--bcher-kva.example", "ada@bu\u0308cher.example"):
        assert list(fields(sign_up(Client(), username="grace", email=email))) == ["email"]


@pytest.mark.parametrize("same", ["username", "email"])
def test_of_two_sign_ups_at_the_same_moment_one_is_told_that_it_was_second(monkeypatch, sent, same):
    """Both have been checked before either is written."""
    checked, hash_password = threading.Barrier(2, timeout=20), signup.make_password

    def wait_for_the_other(password):
        checked.wait()
        return hash_password(password)

    monkeypatch.setattr(signup, "make_password", wait_for_the_other)

    def post(n):
        try:
            return sign_up(Client(), **({"username": f"ada{n}", "email": f"ada{n}@example.org"} | {same: ADA[same]}))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        first, second = sorted(threads.map(post, range(2)), key=lambda response: response.status_code)
    assert first.status_code == 201
    assert list(fields(second)) == [same]
    assert User.objects.count() == Job.objects.count() == len(sent) == 1


def test_a_visitor_with_as_many_unfinished_jobs_as_allowed_can_sign_up(client, sent, settings):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "UNFINISHED_PER_OWNER": 0}
    response = sign_up(client)
    assert response.status_code == 201
    assert Job.objects.get().by_site


def test_a_broker_out_of_reach_costs_the_e_mail_and_not_the_user(client, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionRefusedError

    monkeypatch.setattr("livejobs.task.JobTask.apply_async", refuse)
    assert sign_up(client).status_code == 201
    assert User.objects.exists()
    assert Job.objects.get().state == "FAILURE"


# Who may post


def test_a_session_needs_csrfs_token(sent):
    client = Client(enforce_csrf_checks=True)
    client.get("/signup/")
    refused = client.post("/api/users/", json.dumps(ADA), content_type="application/json")
    assert refused.status_code == 403
    assert sign_up(client).status_code == 201


def test_a_program_without_a_session_gets_one_and_its_token(sent):
    client = Client(enforce_csrf_checks=True)
    assert sign_up(client).status_code == 201
    assert {"sessionid", "csrftoken"} <= client.cookies.keys()
    assert sign_up(client, username="grace", email="grace@example.org").status_code == 201


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
def test_a_form_of_another_site_is_not_read(kind):
    """These are what a browser posts to another site without asking it first. Source: Fetch standard, CORS."""
    client = Client(enforce_csrf_checks=True)
    assert client.post("/api/users/", json.dumps(ADA), content_type=kind).status_code == 415
    assert not User.objects.exists()


async def test_only_the_page_that_signed_up_may_watch_the_e_mail(socket, another_user, stranger, sent):
    client = Client()
    task_id = (await sync_to_async(sign_up)(client)).json()["task_id"]
    page = await socket(f"/ws/task_status/{task_id}/", client=client)
    assert (await page.frame())["state"] == "PENDING"
    for other in (another_user, stranger):
        assert await (await socket(f"/ws/task_status/{task_id}/", client=other)).closed() == 4404


async def test_visitors_cannot_start_the_welcome_e_mail_themselves(socket):
    visitor = await socket()
    await visitor.send(type="start", kind="welcome_email", params={"user_id": 1})
    refused = await visitor.frame()
    assert refused["code"] == "unknown_kind"
    assert "welcome_email" not in refused["detail"]
    assert await Job.objects.acount() == 0


# How often


def test_an_address_may_sign_up_only_so_often(client, sent, settings):
    settings.SIGNUPS_PER_ADDRESS = 2
    sign_up(client, username="a b")
    assert sign_up(client).status_code == 201
    refused = sign_up(Client(), username="grace", email="grace@example.org")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_signups")
    assert "Too many sign-ups from your address. Try again in" in refused.json()["detail"]
    assert 0 < int(refused["Retry-After"]) <= 3600
    assert User.objects.count() == 1


def count_as(address, **headers) -> str:
    request = signup.Request(Client().get("/", REMOTE_ADDR=address, headers=headers).wsgi_request)
    return signup.SignUpThrottle().get_cache_key(request, None)


def test_without_a_proxy_nobody_can_invent_an_address():
    assert count_as("192.0.2.1", X_Forwarded_For="198.51.100.7") == "signup-192.0.2.1"


def test_behind_proxies_only_what_they_say_counts(settings):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    assert count_as("192.0.2.1", X_Forwarded_For="203.0.113.9, 198.51.100.7") == "signup-198.51.100.7"


def test_a_household_has_many_ipv6_addresses_and_counts_as_one():
    assert count_as("2001:db8:1:2:3::4") == count_as("2001:db8:1:2:5::6") == "signup-2001:db8:1:2::/64"
    assert count_as("2001:db8:1:3::4") != count_as("2001:db8:1:2::4")


def test_where_nothing_can_be_counted_nobody_is_turned_away(client, sent, monkeypatch):
    def fail(*_):
        raise RedisError

    monkeypatch.setattr(signup.SignUpThrottle.cache, "get", fail)
    assert sign_up(client).status_code == 201


# The pages


def test_the_sign_up_page_brings_all_that_its_post_needs(client):
    page = client.get("/signup/")
    assert {"sessionid", "csrftoken"} <= client.cookies.keys()
    for part in ('name="email"', 'name="username"', 'name="password"', "at least 8 characters", "/api/users/"):
        assert part in page.content.decode()
    assert "no-store" in page["Cache-Control"]


def test_a_user_logs_in_whatever_the_case_of_their_name_and_out_by_post(client, sent):
    sign_up(client)
    page = client.post("/login/", {"username": "Ada", "password": ADA["password"]}, follow=True)
    assert page.redirect_chain == [("/", 302)]
    assert "Log out ada" in page.content.decode()
    assert owner_of(client.session) == f"user-{User.objects.get().pk}"
    assert client.get("/logout/").status_code == 405
    page = client.post("/logout/", follow=True)
    assert "Log in" in page.content.decode()


def test_a_wrong_password_is_told_and_a_foreign_address_is_not_gone_to(client, sent):
    sign_up(client)
    page = client.post("/login/", {"username": "ada", "password": "wrong"}).content.decode()
    assert 'role="alert"' in page
    login = {"username": "ada", "password": ADA["password"], "next": "https://evil.example/"}
    assert client.post("/login/", login)["Location"] == "/"


@pytest.mark.parametrize("path", ["/signup/", "/login/"])
def test_whoever_is_logged_in_has_nothing_to_do_there(another_user, path):
    assert another_user.get(path)["Location"] == "/"


def test_the_admin_adds_users_and_is_told_of_a_taken_address(admin_client):
    User.objects.create_user("ada", "ada@example.org")
    new = {"username": "grace", "password1": "a long secret", "password2": "a long secret", "usable_password": "true"}
    added = admin_client.post("/admin/HomeApp/user/add/", new)
    assert added.status_code == 302
    change = {"username": "ADA", "email": "ADA@example.org", "date_joined_0": "2026-11-21", "date_joined_1": "12:00"}
    page = admin_client.post(added["Location"], change)
    assert page.status_code == 200
    assert {signup.NAME_TAKEN, signup.EMAIL_TAKEN} <= set(page.context["errors"][0])
