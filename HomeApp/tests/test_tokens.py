import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from HomeApp import views
from livejobs.api.problem import problem
from testkit.api import credentials, post, told

pytestmark = pytest.mark.django_db


@pytest.fixture
def user():
    return get_user_model().objects.create_user(username="ada", email="ada@example.org", password="a long secret")


def test_a_name_and_a_password_are_worth_two_tokens(client, user):
    assert set(post(client, "/api/token/", credentials(user)).json()) == {"access", "refresh"}


def test_a_wrong_password_is_worth_nothing(client, user):
    response = post(client, "/api/token/", credentials(user, "a wrong one"))
    told(response, 401, "no_active_account")
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_what_is_missing_is_named(client, user):
    error = told(post(client, "/api/token/", {"password": "x"}), 400, "invalid")
    assert error["field"] == user.USERNAME_FIELD
    assert error["fields"] == {user.USERNAME_FIELD: ["This field is required."]}
    assert error["detail"] == f"{user.USERNAME_FIELD}: This field is required."


def test_a_refresh_token_can_be_used_once(client, user):
    first = post(client, "/api/token/", credentials(user)).json()["refresh"]
    second = post(client, "/api/token/refresh/", {"refresh": first})
    assert second.status_code == 200
    told(post(client, "/api/token/refresh/", {"refresh": first}), 401, "token_not_valid")
    assert post(client, "/api/token/refresh/", {"refresh": second.json()["refresh"]}).status_code == 200


def test_a_refresh_token_is_worth_nothing_without_its_user(client, user):
    refresh = post(client, "/api/token/", credentials(user)).json()["refresh"]
    user.delete()
    told(post(client, "/api/token/refresh/", {"refresh": refresh}), 401, "token_not_valid")


@pytest.mark.parametrize(
    "body",
    ["{", "[" * 60_000, "NaN", '{"a": "\\ud800"}', b'"\xff"', "1" * 5000],
    ids=["half", "deep", "nan", "half_character", "not_utf8", "long_number"],
)
def test_a_body_that_is_not_json_is_told(client, body):
    told(post(client, "/api/token/", body), 400, "bad_json")


def test_a_body_that_is_no_object_is_told(client):
    assert told(post(client, "/api/token/", [1]), 400, "invalid")["field"] is None


def test_a_body_without_end_is_told(client):
    told(post(client, "/api/token/", " " * 70_000), 413, "body_too_large")


def test_another_media_type_is_told(client):
    told(client.post("/api/token/", {"a": 1}), 415, "unsupported_media_type")


def test_another_answer_is_told(client):
    told(client.get("/api/token/", headers={"Accept": "image/png"}), 406, "not_acceptable")


def test_another_method_is_told(client):
    told(client.get("/api/token/"), 405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/api/", "/api/nothing/", "/api/token", "/api/jobs/x/y/z"])
def test_where_nothing_is_the_answer_says_so(client, path):
    told(client.get(path), 404, "not_found")
    told(post(client, path, {}), 404, "not_found")


def test_a_failure_of_ours_has_the_same_shape(monkeypatch, settings):
    def fail(*_):
        raise RuntimeError

    client = Client(raise_request_exception=False)
    monkeypatch.setattr("HomeApp.tokens.RefreshSerializer.validate", fail)
    told(post(client, "/api/token/refresh/", {"refresh": "x"}), 500, "internal")
    monkeypatch.setattr(views, "render", fail)
    assert client.get("/")["Content-Type"].startswith("text/html")


def test_problem_names_the_first_field():
    assert problem("invalid", "b: No.", {"b": ["No."], "a": ["No."]})["field"] == "b"


def test_schema_and_docs_come_from_this_site_alone(client):
    assert client.get("/api/schema/").status_code == 200
    page = client.get("/api/docs/").content.decode()
    assert "/static/drf_spectacular_sidecar/" in page
    assert "//cdn" not in page
