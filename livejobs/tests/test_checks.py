"""What the system checks say of a project's settings."""

import pytest
from celery import current_app
from channels.layers import channel_layers
from django import forms
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.checks import run_checks

from livejobs import kinds
from livejobs.checks import database
from livejobs.checks import kinds as kind_checks
from livejobs.lifespan import RelayMiddleware

ENGINES = "django.contrib.sessions.backends"


class SessionStore(SessionBase):
    """A session that cannot be loaded: this module is an engine without a `load`."""


def messages(**how) -> list:
    return [message for message in run_checks(**how) if message.id.startswith("livejobs.")]


def ids(**how) -> list[str]:
    return [message.id for message in messages(**how)]


@pytest.fixture
def celery_settings():
    """Changes Celery's settings for one test."""
    kept = {}

    def change(**values):
        for name in values:
            kept.setdefault(name, getattr(current_app.conf, name))
        current_app.conf.update(values)

    yield change
    current_app.conf.update(kept)


@pytest.fixture
def layers(settings):
    """Sets the channel layers for one test."""

    def layers(**backends):
        settings.CHANNEL_LAYERS = {name: {"BACKEND": backend} for name, backend in backends.items()}
        channel_layers.backends.clear()

    yield layers
    channel_layers.backends.clear()


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file"])
def test_djangos_engines_can_be_read(settings, engine):
    settings.SESSION_ENGINE = f"{ENGINES}.{engine}"
    assert ids() == []


def test_a_signed_cookie_outlives_its_log_out(settings):
    settings.SESSION_ENGINE = f"{ENGINES}.signed_cookies"
    assert ids() == ["livejobs.W001"]


@pytest.mark.parametrize("engine", ["no.such.engine", "livejobs.jobs", "livejobs.tests.test_checks"])
def test_an_engine_that_cannot_be_read_is_an_error_with_its_remedy(settings, engine):
    settings.SESSION_ENGINE = engine
    error = next(message for message in run_checks() if message.id == "livejobs.E001")
    assert engine in error.msg
    assert "SESSION_ENGINE" in error.hint


def test_sessions_whose_table_or_cache_is_missing_are_an_error(settings, monkeypatch):
    settings.SESSION_ENGINE, settings.SESSION_CACHE_ALIAS = f"{ENGINES}.cache", "sessions"
    assert ids() == ["livejobs.E001"]

    def no_table():
        raise RuntimeError("Model class Session isn't in an application in INSTALLED_APPS.")

    settings.SESSION_ENGINE = f"{ENGINES}.db"
    monkeypatch.setattr(DatabaseStore, "get_model_class", no_table)
    assert ids() == ["livejobs.E001"]


def test_a_project_without_a_channel_layer_is_told(layers):
    layers(other="channels.layers.InMemoryChannelLayer")
    assert ids() == ["livejobs.E005"]


def test_a_channel_layer_that_cannot_be_loaded_is_an_error(layers):
    layers(default="channels_redis.nothing.Layer")
    assert ids() == ["livejobs.E006"]


def test_the_in_memory_layer_is_told_before_a_deployment(layers):
    layers(default="channels.layers.InMemoryChannelLayer")
    assert ids() == []
    assert ids(include_deployment_checks=True) == ["livejobs.W002"]


def test_a_database_that_the_engine_does_not_know_is_an_error(monkeypatch):
    monkeypatch.setattr(database, "SUPPORTED", ())
    assert ids() == ["livejobs.E007"]


def test_eager_mode_is_told(celery_settings):
    celery_settings(task_always_eager=True)
    assert ids() == ["livejobs.W003"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, ["livejobs.W004", "livejobs.W005"]),
        ({"broker_channel_error_retry": True}, ["livejobs.W004"]),
        ({"broker_channel_error_retry": True, "broker_transport_options": {"confirm_publish": True}}, []),
    ],
)
@pytest.mark.parametrize("url", ["amqp://rabbit", "amqps://rabbit", ["amqp://one", "amqp://two"]])
def test_rabbitmq_confirms_and_keeps_its_workers(celery_settings, url, options, told):
    celery_settings(
        **{"broker_transport_options": {}, "broker_channel_error_retry": False, **options, "broker_url": url}
    )
    assert ids() == told


@pytest.mark.parametrize(("seconds", "told"), [(30, ["livejobs.W006"]), (3600, [])])
def test_a_short_visibility_timeout_of_redis_is_told(celery_settings, seconds, told):
    celery_settings(broker_url="redis://cache", broker_transport_options={"visibility_timeout": seconds})
    assert ids() == told


@pytest.mark.parametrize(
    ("pool", "told"), [("prefork", []), ("threads", ["livejobs.W008"]), ("gevent", ["livejobs.W008"])]
)
def test_a_pool_in_which_no_signal_stops_a_job_is_told(celery_settings, pool, told):
    celery_settings(worker_pool=pool)
    assert ids() == told


def before_a_deployment() -> list[str]:
    return ids(include_deployment_checks=True)


@pytest.mark.parametrize(("url", "told"), [("redis://cache", True), ("memory://", False)])
def test_two_deployments_on_shared_services_need_names_of_their_own(celery_settings, settings, url, told):
    celery_settings(broker_url=url)
    assert "livejobs.W007" not in before_a_deployment()
    settings.LIVEJOBS = {name: value for name, value in settings.LIVEJOBS.items() if name != "DEPLOYMENT"}
    assert ("livejobs.W007" in before_a_deployment()) is told


def test_an_application_without_the_engine_is_told_before_a_deployment(settings, monkeypatch):
    assert "livejobs.W009" not in before_a_deployment()
    monkeypatch.setattr(RelayMiddleware, "made", False)
    assert "livejobs.W009" in before_a_deployment()
    settings.ASGI_APPLICATION = None
    assert "livejobs.W009" not in before_a_deployment()


def test_an_application_that_cannot_be_imported_is_told(settings):
    settings.ASGI_APPLICATION = "shop.nothing.application"
    assert "livejobs.W009" in before_a_deployment()


def test_tasks_that_cannot_be_imported_are_an_error_that_names_the_line(tmp_path, monkeypatch):
    (tmp_path / "tasks_with_a_typo.py").write_text("ok = 1\nsharde_task\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(current_app.loader, "default_modules", ["tasks_with_a_typo"])
    [error] = messages()
    assert (error.id, "sharde_task" in error.msg) == ("livejobs.E008", True)
    assert error.hint.endswith("tasks_with_a_typo.py, line 2.")
    (tmp_path / "tasks_with_a_typo.py").write_text("def task(:\n")
    assert messages()[0].hint.endswith("tasks_with_a_typo.py, line 1.")


def test_the_checks_end_though_celery_runs_them_when_it_imports_the_tasks():
    kinds.load_kinds()
    assert ids() == []


def test_two_kinds_of_one_name_are_an_error(new_kind):
    def count_primes(self):
        """Another one."""

    new_kind(count_primes)
    [error] = messages()
    assert error.id == "livejobs.E009"
    assert "HomeApp.tasks.count_primes, tests.count_primes" in error.msg


class UploadForm(forms.Form):
    file = forms.FileField()
    moment = forms.SplitDateTimeField()
    name = forms.CharField()


class Captioned(forms.MultiValueField):
    def __init__(self):
        fields = forms.FileField(), forms.CharField()
        super().__init__(fields, widget=forms.MultiWidget([forms.FileInput, forms.TextInput]))


class Pair(forms.MultiValueField):
    def __init__(self):
        super().__init__([forms.CharField(), forms.CharField()])


class UnstorableForm(forms.Form):
    captioned = Captioned()
    pair = Pair()


class ImageForm(forms.Form):
    image = forms.ImageField()


class TextForm(forms.Form):
    day = forms.DateField()
    name = forms.CharField()


@pytest.mark.parametrize(
    ("form", "title", "told"),
    [
        (UploadForm, "Report of {file}", []),
        (UnstorableForm, "Report", ["livejobs.E011"] * 2),
        (TextForm, "Report for {day} of {name!r:>10}", []),
        (TextForm, "Report for {date.year}", ["livejobs.E010"]),
        (TextForm, "Report {}", ["livejobs.E010"]),
        (TextForm, "Report {", ["livejobs.E010"]),
        (TextForm, "{{name}}", []),
    ],
)
def test_a_form_and_a_title_fit_before_the_first_start(new_kind, form, title, told):
    def report(self, **params):
        """Not run."""

    new_kind(report, form=form, title=title)
    assert ids() == told
    assert all("tests.report" in message.msg and message.hint for message in messages())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"FILES_DIR": None}, ["livejobs.E013"]),
        ({"FILES_DIR": None, "UPLOADS": "default"}, []),
        ({"UPLOADS": "bucket"}, ["livejobs.E013"]),
    ],
)
def test_a_form_with_a_file_needs_a_storage(new_kind, settings, changed, told):
    def report(self, **params):
        """Not run."""

    new_kind(report, form=UploadForm)
    settings.LIVEJOBS = {**settings.LIVEJOBS, **changed}
    assert [message.id for message in messages() if "tests.report" in message.msg] == told


@pytest.mark.parametrize(("found", "told"), [(None, ["livejobs.E011"]), (object(), [])])
def test_an_image_needs_pillow(new_kind, monkeypatch, found, told):
    def report(self, **params):
        """Not run."""

    new_kind(report, form=ImageForm)
    monkeypatch.setattr(kind_checks, "find_spec", {"PIL": found}.get)
    assert ids() == told
