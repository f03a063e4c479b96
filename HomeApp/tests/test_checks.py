"""What the system checks say of the site's settings."""

import sys

import pytest
from django.core.checks import run_checks


def ids(**how) -> list[str]:
    return [message.id for message in run_checks(**how) if message.id.startswith("HomeApp.")]


@pytest.fixture
def without_openai(monkeypatch):
    """OpenAI's client is not installed."""
    monkeypatch.setitem(sys.modules, "openai", None)


@pytest.mark.usefixtures("db")  # some of Django's own checks ask it
def test_a_key_for_openai_without_its_client_is_an_error_with_its_remedy(settings, without_openai):
    settings.OPENAI_API_KEY = "a key"
    [error] = [message for message in run_checks() if message.id == "HomeApp.E001"]
    assert "requirements-openai.txt" in error.hint


@pytest.mark.usefixtures("db")
def test_without_a_key_the_client_of_openai_is_not_missed(settings, without_openai):
    settings.OPENAI_API_KEY = ""
    assert ids() == []


@pytest.mark.usefixtures("db")
def test_a_key_and_its_client_are_in_order(settings):
    settings.OPENAI_API_KEY = "a key"
    assert ids() == []


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(("key", "told"), [("", ["HomeApp.W001"]), ("the same for all", [])])
def test_a_secret_key_of_this_machine_alone_is_told_before_a_deployment(settings, key, told):
    settings.SECRET_KEY_FROM_ENVIRONMENT = key
    assert ids() == []
    assert ids(include_deployment_checks=True) == told
