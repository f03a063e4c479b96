"""Several files of one job: how they are made, told, downloaded and deleted."""

from datetime import timedelta

import pytest
from django.utils import timezone

from livejobs import files
from livejobs.models import Job, State

NAMES = ["north & south.csv", "Übersicht.txt"]


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    """The folder of the jobs' files."""
    settings.LIVEJOBS = {**settings.LIVEJOBS, "FILES_DIR": tmp_path}
    return tmp_path


@pytest.fixture
def split(new_kind):
    """A kind of job that makes several files."""

    def split(self):
        for name in NAMES:
            with files.writing(self.request.id, name) as path:
                path.write_text(f"of {name}")
        return {"files": NAMES, "rows": 2}

    return new_kind(split)


@pytest.fixture
def job(split, run_job, owner):
    """A job that has made several files."""
    return run_job("split", owner=owner.owner)


def test_each_file_has_its_address_and_the_end_is_told_with_all_of_them(job):
    base = f"/api/jobs/{job.pk}/file/"
    assert job.state == State.SUCCESS
    assert [shown["files"] for shown in job.snapshots[:-1]] == [None] * (len(job.snapshots) - 1)
    assert job.snapshots[-1]["url"] == base
    assert job.snapshots[-1]["files"] == [
        {"name": NAMES[0], "url": f"{base}?name=north+%26+south.csv"},
        {"name": NAMES[1], "url": f"{base}?name=%C3%9Cbersicht.txt"},
    ]


def test_a_single_file_is_told_in_the_same_way():
    job = Job(result={"file": "rows.csv"}, file="rows.csv")
    assert job.files == [{"name": "rows.csv", "url": job.url}]
    assert Job(result={"rows": 2}).files is None


@pytest.mark.parametrize("base", ["/api/jobs", "/jobs"])
def test_each_file_is_downloaded_under_its_name(owner, job, base):
    for query, name in (("", NAMES[0]), *((one["url"].partition("/file/")[2], one["name"]) for one in job.files)):
        answer = owner.get(f"{base}/{job.pk}/file/{query}")
        assert b"".join(answer.streaming_content).decode() == f"of {name}"
        assert "attachment; filename" in answer["Content-Disposition"]


@pytest.mark.parametrize("name", ["other.csv", "../db.sqlite3", "..", "north & south.csv/", "\0", "x" * 300])
def test_any_other_name_is_not_found(owner, job, name):
    for base in ("/api/jobs", "/jobs"):
        assert owner.get(f"{base}/{job.pk}/file/", {"name": name}).status_code == 404


def test_the_files_are_their_owners_alone(job, another_user, stranger):
    for client in (another_user, stranger):
        for url in (job.files[0]["url"], f"/jobs/{job.pk}/file/?name=x"):
            assert client.get(url).status_code == 404


@pytest.mark.parametrize("name", ["../rows.csv", "/etc/rows.csv", "..", "a\0b", "x" * 300])
def test_a_task_that_gives_a_path_for_a_name_is_told(name):
    with pytest.raises(ValueError, match="without a folder"), files.writing("job-1", name):
        raise AssertionError("not to be reached")


def test_an_attempt_that_runs_again_replaces_the_files(folder):
    for text in ("first", "second"):
        with files.writing("job-1", "rows.csv") as path:
            path.write_text(text)
    assert files.path_of("job-1", "rows.csv").read_text() == "second"
    assert [path.name for path in folder.iterdir()] == ["job-1.files"]


def test_the_files_go_with_time_and_the_pages_say_so(owner, job, folder):
    files.delete_old(timezone.now())
    assert len(list(folder.glob("*/*"))) == 2
    assert files.delete_old(timezone.now() + timedelta(days=2)) == 1
    assert list(folder.iterdir()) == []
    told = owner.get(f"/api/jobs/{job.pk}/").json()
    assert (told["files"], told["url"]) == ([], None)
    assert owner.get(job.files[1]["url"]).json()["code"] == "file_deleted"
    page = owner.get(f"/jobs/{job.pk}/").content.decode()
    assert "Done. The files have been deleted." in page
    assert "Download " not in page


def test_the_files_of_a_deleted_job_go_too(job, folder):
    Job.objects.all().delete()
    files.delete_old(timezone.now())
    assert list(folder.iterdir()) == []


def test_a_result_that_names_other_files_than_its_own_has_none():
    for result in ({"files": 2}, {"files": ["in/a.csv"]}, {"files": []}, {"file": None}):
        job = Job(owner="visitor-1", kind="split")
        job.end(State.SUCCESS, result=result)
        assert (job.file, job.files) == ("", None)
