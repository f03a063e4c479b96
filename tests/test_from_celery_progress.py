"""celery-progress beside jobs, and the edits of docs/from-celery-progress.md, in a project with real processes."""

import asyncio
import json
import re
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar

import pytest
from playwright.sync_api import expect

from testkit.pages import press_start, the_end, told
from testkit.processes import ROOT, Site, wait_until
from testkit.watcher import Watcher, visit

PAGE = ROOT / "docs" / "from-celery-progress.md"
BLOCK = re.compile(r"^```(?:python|django)\n(?:# |\{# )(\S+).*\n((?:.*\n)*?)```$", re.MULTILINE)

#: What a project has of celery-progress 0.5: the same calls of Celery, the same names.
CELERY_PROGRESS = {
    "celery_progress/__init__.py": "",
    "celery_progress/backend.py": """
class ProgressRecorder:
    current = total = 0

    def __init__(self, task):
        self.task = task

    def set_progress(self, current, total, description=""):
        self.current, self.total = current, total
        percent = round(100 * current / total, 2) if total else 0
        numbers = {"pending": False, "current": current, "total": total, "percent": percent}
        self.task.update_state(state="PROGRESS", meta={**numbers, "description": description})

    def increment_progress(self, by=1, description=""):
        self.set_progress(self.current + by, self.total, description)
""",
    "celery_progress/tasks.py": """
from celery.signals import task_postrun

@task_postrun.connect(retry=True)
def store_ignored(task, state, retval, **kwargs):
    if state == "IGNORED":
        task.update_state(state=state, meta=str(retval))
""",
    "celery_progress/urls.py": """
from celery.result import AsyncResult
from django.http import JsonResponse
from django.urls import path

def get_progress(request, task_id):
    result = AsyncResult(task_id)
    return JsonResponse({"state": result.state, "complete": result.ready(), "progress": result.info})

app_name = "celery_progress"
urlpatterns = [path("<str:task_id>/", get_progress, name="task_status")]
""",
}
#: The rest of the project: it has the settings of this site, and so its services.
PROJECT = {
    "project_settings.py": """
from CeleryProgressbar.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "celery_progress", "shop"]
ROOT_URLCONF = "project_urls"
CELERY_IMPORTS = ["old_tasks"]
""",
    "project_urls.py": """
from django.urls import include, path

urlpatterns = [path("", include("shop.urls")), path("", include("CeleryProgressbar.urls"))]
""",
    "old_tasks.py": """
import time

from celery import shared_task
from celery_progress.backend import ProgressRecorder
from livejobs.task import JobTask

@shared_task(base=JobTask, bind=True, title="Old recorder")
def old_recorder(self):
    progress = ProgressRecorder(self)
    for _ in range(1000):
        progress.increment_progress()
    for step in range(100):
        progress.set_progress(step + 1, 100, description="first half" if step < 50 else "second half")
        time.sleep(0.02)
    return "done"

@shared_task(base=JobTask, bind=True, title="Slow")
def slow(self):
    for _ in self.track(range(6000)):
        time.sleep(0.01)
""",
    "shop/__init__.py": "",
}


def blocks() -> list[tuple[str, str]]:
    """Return the page's files, as (name, text): first the project as it is, then its edits in order."""
    return [(match[1], match[2]) for match in BLOCK.finditer(PAGE.read_text())]


#: The files of the project before the first edit.
BEFORE = 4


class Project(Site):
    """The project of the page, after some of its edits."""

    def __init__(self, folder, edits: int):
        path = f"{folder}:{ROOT}"
        super().__init__(folder, DJANGO_SETTINGS_MODULE="project_settings", PYTHONPATH=path)
        for name, text in (CELERY_PROGRESS | PROJECT | dict(blocks()[: BEFORE + edits])).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def open(self):
        """Start a web process, and a worker that runs one task at a time."""
        self.host = self.web()
        self.worker(1)

    def get(self, address: str, opener=None) -> str:
        """Return what the project answers its visitor."""
        with (opener or self.opener).open(f"http://{self.host}{address}", timeout=30) as answer:
            return answer.read().decode()

    def poll(self, address: str) -> list[dict]:
        """Return all that a page which polls is told, up to the end."""
        answers = []

        def complete() -> bool:
            answers.append(json.loads(self.get(address)))
            return answers[-1]["complete"]

        wait_until(complete, f"{address} is complete; see {self.folder}", 60)
        return answers


@pytest.fixture
def project(request, tmp_path):
    """The project, after as many edits as the test says."""
    project = Project(tmp_path, request.param)
    try:
        project.open()
        yield project
    finally:
        project.kill_all()


def after(edits: int):
    """Run a test with the project after so many edits."""
    return pytest.mark.parametrize("project", [edits], indirect=True, ids=[f"after edit {edits}"])


@asynccontextmanager
async def watching(project):
    """Open a page that shows all jobs of a new visitor."""
    page = Watcher("page", "owner", [project.host], await asyncio.to_thread(visit, project.host))
    watch = asyncio.create_task(page.watch())
    try:
        yield page
    finally:
        watch.cancel()


def test_the_page_has_the_project_and_five_edits():
    names = ["shop/tasks.py", "shop/views.py", "shop/urls.py", "shop/templates/progress.html"]
    assert [name for name, _ in blocks()] == [*names, "shop/tasks.py", *names]


@after(1)
async def test_a_recorder_of_celery_progress_shows_on_the_bar_of_a_job_and_loses_none(project):
    async with watching(project) as page:
        task_id = await press_start(page, "old_recorder", None)
        end = await the_end(page, task_id)
        frames = [one.frame for one in page.frames(task_id)]
    reports = [frame for frame in frames if frame["state"] == "PROGRESS"]
    assert (end["state"], end["result"], end["attempt"]) == ("SUCCESS", "done", 1)
    assert {"first half", "second half"} <= {frame["description"] for frame in reports}
    percentages = [frame["percent"] or 0 for frame in frames]
    assert percentages == sorted(percentages)
    assert len(set(percentages)) > 5
    assert {frame["total"] for frame in reports} <= {0, 100}


@after(1)
async def test_a_job_that_is_cancelled_before_it_begins_holds_up_no_worker(project):
    async with watching(project) as page:
        first = await press_start(page, "slow", None)
        await told(page, first, "PROGRESS")
        second = await press_start(page, "slow", None)
        for task_id in (second, first):
            await page.cancel(task_id)
            assert (await the_end(page, task_id))["state"] == "REVOKED"
        third = await press_start(page, "old_recorder", None)
        assert (await the_end(page, third))["state"] == "SUCCESS"


@after(1)
def test_the_new_recorder_reports_for_tasks_that_are_no_jobs(project):
    [address] = re.findall(r"/celery-progress/[\w-]+/", project.get("/import/"))
    *answers, last = project.poll(address)
    # Celery's file backend is read in two steps, and may be written between them.
    reports = [answer["progress"] for answer in answers if answer["state"] == "PROGRESS" and answer["progress"]]
    assert {report["description"] for report in reports} == {"Importing"}
    assert len({report["percent"] for report in reports}) > 1
    assert last["state"] == "SUCCESS"


@after(4)
def test_the_polling_page_goes_on_for_its_visitor_alone(project):
    [address] = re.findall(r"/celery-progress/[\w-]+/", project.get("/import/"))
    with pytest.raises(urllib.error.HTTPError, match="404"):
        project.get(address, urllib.request.build_opener())
    *answers, last = project.poll(address)
    reports = [answer["progress"] for answer in answers if answer["state"] == "PROGRESS"]
    assert {(report["total"], report["description"], report["pending"]) for report in reports} == {
        (100, "Importing", False)
    }
    percentages = [answer["progress"]["percent"] for answer in answers]
    assert percentages == sorted(percentages)
    assert (last["state"], last["success"], last["result"]) == ("SUCCESS", True, 100)


@after(5)
def test_the_page_is_live_without_polling(project, visitor):
    page = visitor.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://{project.host}/import/", wait_until="commit")
    expect(page.locator("#progress-bar-message")).to_have_text("Importing")
    expect(page.locator("#progress-bar-message")).to_have_text("Success! 100")
    assert page.locator("#progress-bar").evaluate("bar => bar.value") == 100
    assert not [url for url in asked if "celery-progress" in url]
