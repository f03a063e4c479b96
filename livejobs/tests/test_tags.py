"""The forms and bars that a template shows by the tags of the engine."""

import re
from pathlib import Path

import pytest
from django import forms
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.staticfiles import finders
from django.template import RequestContext, Template
from django.test.utils import override_script_prefix
from django.utils import timezone

from livejobs.models import FINAL, Job, State
from livejobs.owner import VISITOR, page_owner

pytestmark = pytest.mark.django_db


@pytest.fixture
def request_(rf):
    """A request of a new visitor."""
    request = rf.get("/")
    request.session, request.user = SessionStore(), AnonymousUser()
    return request


@pytest.fixture
def rendered(request_):
    """Renders a template's text."""

    def rendered(text, **context):
        return Template("{% load livejobs %}" + text).render(RequestContext(request_, context))

    return rendered


def told(page) -> dict[str, str]:
    """Return what the page's scripts are told."""
    [config] = re.findall(r'<template id="livejobs"(.*?)>', page, re.DOTALL)
    return dict(re.findall(r'data-([a-z-]+)="(.*?)"', config))


def test_a_form_and_bars_are_all_that_a_page_needs(rendered, request_):
    page = rendered('{% job_form "count_primes" %}{% job_bars %}')
    assert 'data-kind="count_primes"' in page
    assert 'name="below"' in page
    assert 'id="jobs"' in page
    assert "livejobs/page.js" in page
    assert told(page) | {"now": ""} == {
        "now": "",
        "owner": page_owner(request_.session[VISITOR]),
        "sockets": "/ws/",
        "api": "/api/",
        "job-page": "/jobs/00000000-0000-0000-0000-000000000000/",
        "csrf-cookie": "csrftoken",
        "csrf": "",
        "jquery": "/static/admin/js/vendor/jquery/jquery.min.js",
        "upload-mib": "20",
    }


def test_a_page_asks_for_all_its_scripts_at_once(rendered):
    folder, found = Path(finders.find("livejobs/page.js")).parent, ["page.js"]
    for name in found:
        imported = re.findall(r'^import .*"\./(.+)";$', (folder / name).read_text(), re.MULTILINE)
        found += [one for one in imported if one not in found]
    preloaded = re.findall(r'<link rel="modulepreload" href="/static/livejobs/(.+?)">', rendered("{% job_bars %}"))
    assert sorted(preloaded) == sorted(found[1:])


def test_a_page_of_a_sub_path_without_the_api(rendered, settings, monkeypatch):
    monkeypatch.setattr("livejobs.routing.urlpatterns", [], raising=False)
    settings.ROOT_URLCONF = "livejobs.routing"  # it has no address over HTTP
    settings.CSRF_COOKIE_NAME, settings.CSRF_COOKIE_HTTPONLY = "shop-csrf", True
    with override_script_prefix("/shop/"):
        config = told(rendered("{% job_bars %}"))
    assert (config["sockets"], config["api"], config["csrf-cookie"]) == ("/shop/ws/", "", "shop-csrf")
    assert len(config["csrf"]) == 64


def test_a_page_that_only_has_scripts_of_its_own_makes_no_session(rendered, request_):
    assert told(rendered("{% job_config %}"))["owner"] == ""
    assert request_.session.is_empty()


def test_a_project_without_the_admin_takes_jquery_from_its_cdn(rendered, settings):
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.admin"]
    config = told(rendered("{% job_bars %}"))
    assert config["jquery"].startswith("https://code.jquery.com/")
    assert config["jquery-integrity"].startswith("sha256-")


@pytest.mark.parametrize("kind", ["no_such_kind", "welcome_email"])
def test_a_form_of_what_no_visitor_may_start_is_an_error(rendered, kind):
    with pytest.raises(LookupError, match="count_primes"):
        rendered(f'{{% job_form "{kind}" %}}')


class UploadForm(forms.Form):
    photo = forms.FileField(label="Your photo")
    day = forms.SplitDateTimeField(label="Taken at")


def test_a_form_with_a_file_says_how_it_is_posted_and_how_large_a_file_may_be(rendered, new_kind, settings):
    def shrink(self, photo):
        """Not run."""

    new_kind(shrink, form=UploadForm)
    settings.LIVEJOBS = {**settings.LIVEJOBS, "UPLOAD_MIB": 0.5}
    page = rendered('{% job_form "shrink" %}')
    assert 'action="/start/shrink/" enctype="multipart/form-data"' in page
    assert told(page)["upload-mib"] == "0.5"
    assert "enctype" not in rendered('{% job_form "count_primes" %}')
    settings.ROOT_URLCONF = "livejobs.api.urls"
    with pytest.raises(LookupError, match=r"livejobs\.urls"):
        rendered('{% job_form "shrink" %}')


def test_a_field_of_several_inputs_has_one_label_for_all(rendered, new_kind):
    def shrink(self, photo):
        """Not run."""

    new_kind(shrink, form=UploadForm)
    page = rendered('{% job_form "shrink" %}')
    legend = page.index('<legend data-field="day">Taken at</legend>')
    assert page.rindex("<fieldset>", 0, legend) < legend < page.index('name="day_0"') < page.index("</fieldset>")
    assert '<label for="shrink_photo">Your photo</label>' in page


def test_bars_of_one_kind_in_words_of_the_project(rendered):
    page = rendered('{% job_bars kind="search" title=title button="GO" %}', title="Your <search>")
    assert 'data-kind="search"' in page
    assert "Your &lt;search&gt;" in page
    assert "Press GO." in page


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"state": State.PROGRESS, "current": 1, "total": 3}, ["Running.", 'value="33.33"', "33%"]),
        ({"state": State.SUCCESS, "current": 1, "total": 1, "result": 168}, ["The answer is 168.", "100%"]),
        ({"state": State.PENDING}, ["Waiting for a worker.", 'value="0"']),
    ],
)
def test_one_job_is_shown_as_it_stands(rendered, fields, shown):
    finished_at = timezone.now() if fields["state"] in FINAL else None
    job = Job.objects.create(
        owner="visitor-1", kind="count_primes", title="<Primes>", finished_at=finished_at, **fields
    )
    page = rendered("{% job_bar job %}", job=job)
    assert f'task-id="{job.pk}"' in page
    assert "&lt;Primes&gt;" in page
    for words in shown:
        assert words in page
