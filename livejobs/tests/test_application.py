"""An ASGI application with the engine beside it: which requests and sockets go where."""

import subprocess
import sys

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser
from django.core.asgi import get_asgi_application
from django.test import RequestFactory

import livejobs
from livejobs import jobs
from livejobs.owner import VISITOR
from testkit.processes import ROOT

pytestmark = pytest.mark.django_db(transaction=True)


async def application(scope, receive, send):
    """A project's own application, with a socket of its own."""
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "the-projects"})


def beside(project):
    """The application that the server calls, without the relay."""
    return livejobs.asgi(project).application


async def test_a_socket_of_the_engine_is_its_own(the_hub):
    socket = WebsocketCommunicator(beside(application), "/ws/jobs/")
    assert await socket.connect() == (True, None)
    await socket.disconnect()


async def test_a_socket_of_the_project_is_the_projects():
    socket = WebsocketCommunicator(beside(application), "/ws/chat/")
    assert await socket.connect() == (True, "the-projects")


async def test_a_socket_that_django_does_not_have_is_closed_in_words():
    socket = WebsocketCommunicator(beside(get_asgi_application()), "/ws/chat/")
    assert await socket.connect() == (True, None)
    assert (await socket.receive_output())["code"] == 4404


async def test_a_site_below_a_path_has_its_sockets_there(the_hub):
    socket = WebsocketCommunicator(beside(application), "/below/ws/jobs/")
    socket.scope["root_path"] = "/below"
    assert await socket.connect() == (True, None)
    await socket.disconnect()


async def test_a_site_with_a_forced_script_name_has_its_sockets_below_it(the_hub, settings):
    settings.FORCE_SCRIPT_NAME = "/below"
    socket = WebsocketCommunicator(beside(application), "/below/ws/jobs/")
    assert await socket.connect() == (True, None)
    await socket.disconnect()


def test_the_public_names_need_no_settings():
    """A project's asgi.py and tasks.py name them before Django is set up."""
    code = "import livejobs; livejobs.asgi; livejobs.job_finished"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", sorted(livejobs.PUBLIC))
def test_every_public_name_is_there(name):
    assert getattr(livejobs, name).__doc__ or name.startswith("job_")


def test_an_unknown_name_says_so():
    with pytest.raises(AttributeError, match="has no attribute 'strat'"):
        _ = livejobs.strat


def test_a_job_is_started_for_a_request_a_user_or_an_owner(client, django_user_model):
    user = django_user_model.objects.create_user("ada")
    request = RequestFactory().get("/")
    request.session, request.user = client.session, AnonymousUser()
    visitors = livejobs.start(request, "count_primes", {"below": 1000})
    assert visitors.owner == request.session[VISITOR]
    assert livejobs.start(user, "count_primes", {}).owner == f"user-{user.pk}"
    request.user = user
    assert livejobs.start(request, "count_primes", {}).owner == f"user-{user.pk}"
    assert livejobs.cancel(request, jobs.Job.objects.filter(owner=f"user-{user.pk}")[0].pk).state == "REVOKED"
    assert livejobs.start("visitor-7", "count_primes", {}).owner == "visitor-7"


@pytest.mark.parametrize("asker", [AnonymousUser(), None, 7, object], ids=["anonymous user", "None", "7", "object"])
def test_whatever_owns_no_jobs_starts_none(asker):
    """All anonymous users would have been one owner."""
    with pytest.raises(TypeError, match="give the request"):
        livejobs.start(asker, "count_primes", {})
    assert not jobs.Job.objects.exists()


def test_a_request_without_an_owner_cancels_and_retries_nothing_and_gets_no_session(client):
    request = RequestFactory().get("/")
    request.session, request.user = client.session, AnonymousUser()
    for act in (livejobs.cancel, livejobs.retry):
        with pytest.raises(livejobs.Refused, match="no such job"):
            act(request, "6f5729e7-9d41-482f-9ce2-4accfd80d797")
    assert VISITOR not in request.session


def test_a_job_whose_start_cannot_be_announced_is_sent_all_the_same(monkeypatch):
    sent = []
    monkeypatch.setattr(jobs, "_announce", lambda job: 1 / 0)
    monkeypatch.setattr(jobs, "send", sent.append)
    job = livejobs.start("visitor-7", "count_primes", {})
    assert sent == [job]


def test_a_start_is_signalled_once_it_is_committed(django_capture_on_commit_callbacks):
    started = []

    def note(sender, job, **kwargs):
        started.append(job.kind)

    livejobs.job_started.connect(note)
    try:
        livejobs.start("visitor-7", "count_primes", {})
    finally:
        livejobs.job_started.disconnect(note)
    assert started == ["count_primes"]
