"""The Excel export from its start to the file, run as a worker runs it; the broker is replaced by a list."""

import asyncio
import io
import json
import uuid
from datetime import timedelta

import openpyxl
import pytest
from celery import current_app
from celery.app.trace import build_tracer
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from livejobs import files
from livejobs.backend import REPLY_QUEUE
from livejobs.jobs import kinds
from livejobs.models import Job, State
from livejobs.reply import Reply

pytestmark = pytest.mark.django_db
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    """Where the files are."""
    settings.LIVEJOBS = {**settings.LIVEJOBS, "FILES_DIR": tmp_path / "files"}
    return tmp_path / "files"


@pytest.fixture
def staff(transactional_db) -> Client:
    """A user who may see everybody's jobs."""
    user = get_user_model().objects.create_user(username="staff", email="staff@example.org")
    user.user_permissions.add(Permission.objects.get(codename="view_job"))
    client = Client()
    client.force_login(user)
    client.user = user
    return client


def start(client, **params):
    body = json.dumps({"kind": "export_jobs", "params": params})
    return client.post("/api/jobs/", body, content_type="application/json")


@pytest.fixture
def work(monkeypatch):
    """Runs a job's task as a worker does. Returns its replies."""

    def work(task_id) -> list[Reply]:
        bodies = []

        def store(backend, task_id, result, state, traceback=None, request=None, **kwargs):
            bodies.append(json.loads(json.dumps(backend.reply(task_id, result, state, traceback, request))))

        monkeypatch.setattr("livejobs.backend.ReplyBackend.store_result", store)
        job = Job.objects.get(pk=task_id)
        task = kinds()[job.kind]
        request = {"id": task_id, "reply_to": REPLY_QUEUE.name, "delivery_info": {}}
        build_tracer(task.name, task, app=current_app._get_current_object())(task_id, (), job.params, request)
        return [Reply.of(body) for body in bodies]

    return work


@pytest.fixture
def export(work, relay):
    """Exports as a client. Returns the job's address."""

    def export(client, **params) -> str:
        task_id = start(client, **params).json()["task_id"]
        relay.relay(work(task_id))
        return f"/api/jobs/{task_id}/"

    return export


def sheet(client, path) -> list[dict]:
    """Fetch a job's file. Returns its rows."""
    response = client.get(client.get(path).json()["url"])
    assert (response.status_code, response["Content-Type"]) == (200, XLSX)
    heading, *rows = openpyxl.load_workbook(io.BytesIO(response.getvalue())).active.iter_rows(values_only=True)
    return [dict(zip(heading, row, strict=True)) for row in rows]


def age(path, hours):
    """Let a job have ended some hours ago."""
    Job.objects.filter(pk=path.split("/")[3]).update(finished_at=timezone.now() - timedelta(hours=hours))


def test_an_owner_exports_their_own_jobs_and_nobody_elses(owner, another_user, export):
    done = Job(owner=owner.owner, kind="count_primes", title="=1+1", params={"below": 1000})
    done.end(State.SUCCESS, result=168)
    done.save()
    Job.objects.create(owner="visitor-2", kind="count_primes", title="Somebody else's")
    first, last = sheet(owner, export(owner))
    assert (first["Job"], first["State"], first["Percent"], first["Result"]) == ("=1+1", "SUCCESS", 100, 168)
    assert (first["Parameters"], first["Task id"], first["Owner"]) == ('{"below": 1000}', str(done.pk), owner.owner)
    assert first["Finished (UTC)"] - done.finished_at.replace(tzinfo=None) < timedelta(milliseconds=1)
    assert (last["Job"], last["State"]) == ("Excel export", "STARTED")  # this export itself, as its row was then


def test_a_user_with_the_permission_exports_everybodys(owner, staff, export):
    start(owner)
    assert {row["Owner"] for row in sheet(staff, export(staff, everybody=True))} == {
        owner.owner,
        f"user-{staff.user.pk}",
    }
    assert {row["Owner"] for row in sheet(staff, export(staff))} == {f"user-{staff.user.pk}"}


def test_everybodys_jobs_are_refused_to_all_others(owner, another_user, stranger):
    for client in (owner, another_user, stranger):
        response = start(client, everybody=True)
        assert response.status_code == 403
        assert (response.json()["code"], response.json()["field"]) == ("forbidden", "everybody")
    assert not Job.objects.exists()


def test_a_permission_lost_before_the_worker_begins_is_lost(staff, export, work):
    task_id = start(staff, everybody=True).json()["task_id"]
    staff.user.user_permissions.clear()
    last = work(task_id)[-1]
    assert last.state == "FAILURE"
    assert "everybody" in last.error
    assert not files.path_of(task_id).exists()


def test_done_is_told_with_the_url_and_once_the_file_is_there(owner, relay, work):
    task_id = start(owner).json()["task_id"]
    replies = work(task_id)
    assert owner.get(f"/api/jobs/{task_id}/file/").status_code == 404
    relay.relay(replies)
    told = [json.loads(snapshot.text) for snapshot in relay.published]
    assert [job["url"] for job in told] == [None] * (len(told) - 1) + [f"/api/jobs/{task_id}/file/"]
    assert told[-1]["state"] == "SUCCESS"
    assert told[-1]["percent"] == 100
    assert told[-1] == owner.get(f"/api/jobs/{task_id}/").json()
    assert {snapshot.owner for snapshot in relay.published} == {owner.owner}


def test_a_task_that_runs_again_leaves_one_whole_file(owner, relay, work, folder):
    task_id = start(owner).json()["task_id"]
    work(task_id)  # its worker dies before it can tell
    replies = work(task_id)
    relay.relay(replies)
    assert replies[0].attempt == 2
    assert [path.name for path in folder.iterdir()] == [task_id]
    assert len(sheet(owner, f"/api/jobs/{task_id}/")) == 1


def test_a_task_that_fails_leaves_nothing(owner, work, folder, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("HomeApp.workbook.write", fail)
    assert work(start(owner).json()["task_id"])[-1].state == "FAILURE"
    assert list(folder.iterdir()) == []


def test_the_file_is_its_owners_alone(owner, another_user, stranger, staff, export):
    path = export(owner) + "file/"
    response = owner.get(path, headers={"Accept": XLSX})
    assert response.getvalue()[:2] == b"PK"
    assert response["Content-Disposition"] == f'attachment; filename="jobs-{timezone.now():%Y-%m-%d}.xlsx"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in response["Cache-Control"]
    unknown = owner.get(f"/api/jobs/{uuid.uuid4()}/file/")
    for client in (another_user, stranger, staff):
        answer = client.get(path)
        assert (answer.status_code, answer.content) == (404, unknown.content)


def test_a_job_without_a_file_says_so(owner):
    job = Job.objects.create(owner=owner.owner, kind="count_primes", title="Primes")
    assert owner.get(f"/api/jobs/{job.pk}/file/").json()["code"] == "no_file"


def test_under_asgi_the_file_is_sent_piece_by_piece(owner, export, folder):
    path = export(owner)
    content = bytes(range(256)) * 1000
    files.path_of(path.split("/")[3]).write_bytes(content)
    cookie = f"sessionid={owner.cookies['sessionid'].value}".encode()
    scope = {
        "type": "http",
        "method": "GET",
        "path": path + "file/",
        "query_string": b"",
        "headers": [(b"cookie", cookie), (b"host", b"localhost")],
    }
    pieces = []

    async def fetch():
        asked = False

        async def receive():
            nonlocal asked
            if asked:
                await asyncio.Event().wait()
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            pieces.append(message.get("body", b""))

        await get_asgi_application()(scope, receive, send)

    asyncio.run(fetch())
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) < len(content)


def test_files_are_deleted_after_a_day_and_the_page_says_so(owner, export, capsys):
    old, new = export(owner), export(owner)
    before = owner.get(old).json()
    age(old, hours=25)
    call_command("delete_old_files")
    assert capsys.readouterr().out == "Files deleted: 1\n"
    after = owner.get(old).json()
    assert after["url"] is None
    assert after["seq"] > before["seq"]
    assert owner.get(old + "file/").json()["code"] == "file_deleted"
    assert not files.path_of(before["task_id"]).exists()
    assert len(sheet(owner, new)) == 2
    page = owner.get("/jobs/").content.decode()
    assert (
        page.count("The file has been deleted.") == page.count(">Download</a>") - page.count("hidden>Download</a>") == 1
    )


def test_what_no_job_will_ask_for_is_deleted_and_what_one_may_is_not(owner, export, folder):
    kept = export(owner).split("/")[3]
    running = start(owner).json()["task_id"]
    ended = Job(owner=owner.owner, kind="export_jobs", title="Excel export")
    ended.end(State.FAILURE, error="The worker was lost.")
    ended.save()
    for name in (f"{running}.abc", f"{ended.pk}.abc", f"{uuid.uuid4()}.abc"):
        (folder / name).mkdir()
        (folder / name / "file").touch()
    for name in (running, str(ended.pk), str(uuid.uuid4())):
        (folder / name).touch()
    files.delete_old(timezone.now())
    assert {path.name for path in folder.iterdir()} == {kept, running, f"{running}.abc"}


def test_without_any_file_there_is_nothing_to_delete():
    assert files.delete_old(timezone.now()) == 0


def test_celery_beat_deletes_too(owner, export, settings):
    old = export(owner)
    age(old, hours=25)
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        current_app.tasks[entry["task"]]()
    assert owner.get(old).json()["url"] is None


def test_the_page_offers_everybodys_jobs_to_whoever_may_have_them(owner, another_user, stranger, staff):
    for client, offered in ((owner, False), (another_user, False), (stranger, False), (staff, True)):
        page = client.get("/exports/").content.decode()
        assert "Export my jobs" in page
        assert ('name="everybody"' in page) == offered


# /jobs/


def test_my_jobs_are_listed_newest_first_and_page_by_page(owner, another_user, stranger):
    for number in range(26):
        Job.objects.create(owner=owner.owner, kind="count_primes", title=f"Job {number:02}", current=1, total=3)
    first, second = (owner.get(f"/jobs/?page={number}").content.decode() for number in (1, 2))
    assert first.index("Job 25") < first.index("Job 01")
    assert "33%" in first
    assert "Page 1 of 2" in first
    assert "Job 00" not in first
    assert "Job 00" in second
    for client in (another_user, stranger):
        page = client.get("/jobs/").content.decode()
        assert "Job 2" not in page
        assert "not started any job" in page


def test_titles_and_errors_are_shown_as_text(owner):
    job = Job(owner=owner.owner, kind="count_primes", title="<script>alert(1)</script>")
    job.end(State.FAILURE, error="<b>No.</b>")
    job.save()
    page = owner.get("/jobs/").content.decode()
    assert "<script>alert" not in page
    assert "&lt;b&gt;No.&lt;/b&gt;" in page
