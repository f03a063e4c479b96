"""Files that jobs are started with: stored before the row, opened by each attempt, and deleted with the row."""

import csv
import io
import json
import os
import sys
import uuid
import zipfile
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django import forms
from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage, storages
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.db import transaction
from django.test import Client
from django.utils import timezone

import livejobs
from livejobs import jobs, prune, uploads
from livejobs.conf import conf
from livejobs.inline import Inline
from livejobs.models import Job, State
from livejobs.owner import VISITOR
from livejobs.task import TryAgain
from testkit.api import bearer, post, told

pytestmark = pytest.mark.django_db(transaction=True)
OWNER = "visitor-1"


class PhotoForm(forms.Form):
    photo = forms.FileField(label="Your photo")
    width = forms.IntegerField(min_value=1, initial=100)


class TwoForm(forms.Form):
    first = forms.FileField()
    second = forms.FileField(required=False)


class ManyWidget(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyField(forms.FileField):
    """As Django's documentation has it, "Uploading multiple files"."""

    widget = ManyWidget

    def clean(self, data, initial=None):
        return [super(ManyField, self).clean(one, initial) for one in data]


class ManyForm(forms.Form):
    photos = ManyField()


@pytest.fixture(autouse=True)
def stored(settings, tmp_path):
    """Lists the files that are stored, by name, with their content."""
    settings.LIVEJOBS = {**settings.LIVEJOBS, "FILES_DIR": tmp_path, "UPLOAD_MIB": 0.001}  # 1,048.576 bytes

    def stored() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    return stored


@pytest.fixture
def shrink(new_kind):
    """A kind that takes a photo. Returns what its attempts have seen."""
    seen = []

    def shrink(self, photo, width):
        seen.append((photo.name, photo.size, photo.read(), width))
        return len(seen)

    new_kind(shrink, form=PhotoForm, title="Shrink {photo}")
    return seen


@pytest.fixture
def owner():
    client = Client()
    session = client.session
    session[VISITOR] = OWNER
    session.save()
    client.cookies["sessionid"] = session.session_key
    return client


def photo(content=b"pixels", name="me.png"):
    return SimpleUploadedFile(name, content)


# The task


def test_a_task_gets_the_file_that_was_uploaded(run_job, shrink):
    job = run_job("shrink", photo=photo(), width=5)
    assert (job.state, job.title) == ("SUCCESS", "Shrink me.png")
    assert shrink == [("me.png", 6, b"pixels", 5)]


@pytest.mark.parametrize(
    "file",
    [lambda: ContentFile(b"pixels", name="folder/me.png"), lambda: temporary(b"pixels")],
    ids=["of the site's own", "large, so that Django has it in a temporary file"],
)
def test_any_file_of_django_is_taken(run_job, shrink, file):
    with file() as given:
        run_job("shrink", photo=given)
    assert shrink == [("me.png", 6, b"pixels", 100)]


def temporary(content):
    file = TemporaryUploadedFile("me.png", "image/png", len(content), None)
    file.write(content)
    file.seek(0)
    return file


def test_each_attempt_gets_the_file_from_its_beginning_and_leaves_it_closed(run_job, new_kind):
    given = []

    def work(self, photo, width):
        given.append(photo)
        assert photo.opened is None, "it is opened when it is read"
        assert photo.read(3) == b"pix"
        if self.request.attempt == 1:
            raise TryAgain("Once more.")
        return photo.read().decode()

    new_kind(work, form=PhotoForm)
    job = run_job("work", photo=photo())
    assert (job.attempt, job.result) == (2, "els")
    assert all(one.closed for one in given)


def test_a_file_is_one_of_djangos(run_job, new_kind):
    def work(self, photo, width):
        assert isinstance(photo, File)
        assert [*photo] == [b"a\n", b"b"]
        photo.close()
        with photo.open() as again:
            assert again.read() == b"a\nb"
        assert photo.open().read() == b"a\nb"
        assert photo.open().readline() == b"a\n"
        photo.seek(0)
        return [photo.size, len(photo), str(photo), b"".join(photo.chunks()).decode()]

    new_kind(work, form=PhotoForm)
    job = run_job("work", photo=photo(b"a\nb"))
    assert job.result == [3, 3, "me.png", "a\nb"], job.exception


def test_what_python_reads_files_with_takes_it(run_job, new_kind):
    def work(self, first, second):
        with zipfile.ZipFile(first) as archive, io.TextIOWrapper(second, encoding="utf-8", newline="") as text:
            return [archive.namelist(), *csv.reader(text)]

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "A")
    new_kind(work, form=TwoForm)
    job = run_job("work", first=photo(packed.getvalue()), second=photo("ä,b\nc,d\n".encode()))
    assert job.result == [["a.txt"], ["ä", "b"], ["c", "d"]], job.exception


def test_a_file_that_was_not_uploaded_is_none(run_job, new_kind):
    def work(self, first, second):
        return [first.name, second]

    new_kind(work, form=TwoForm)
    assert run_job("work", first=photo()).result == ["me.png", None]


def test_two_files_of_one_name_are_two(run_job, new_kind, stored):
    def work(self, first, second):
        return [file.read().decode() for file in (first, second)] + [first.name, second.name]

    new_kind(work, form=TwoForm)
    job = run_job("work", first=photo(b"one"), second=photo(b"two"))
    assert job.result == ["one", "two", "me.png", "me.png"]
    assert len(stored()) == 2


def test_a_field_may_hold_several_files(run_job, new_kind, stored):
    def work(self, photos):
        return [file.read().decode() for file in photos]

    new_kind(work, form=ManyForm)
    job = run_job("work", photos=[photo(b"one"), photo(b"two")])
    assert job.result == ["one", "two"]
    job.delete()
    assert stored() == {}


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("my photo (1).png", "my_photo_1.png"),
        ("Фото.png", "Фото.png"),
        ("Ж" * 200 + ".png", "Ж" * 73 + ".png"),
        ('<script>"\x00.png', "script.png"),
        ("...", "file"),
        ("\ud800?", "file"),
    ],
)
def test_a_name_is_cleaned(run_job, shrink, stored, name, clean):
    job = run_job("shrink", photo=ContentFile(b"pixels", name=name))
    assert job.state == "SUCCESS"
    assert shrink[0][0] == clean
    assert list(stored()) == [f"{job.pk}.0.{clean}"]


def test_a_file_that_is_gone_fails_the_job_in_words(shrink, stored, tmp_path):
    job = livejobs.start(OWNER, "shrink", {"photo": photo()})
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    failed = run(job)
    assert failed.error == "Your photo: the file that was uploaded is not there any more. Start the job with it again."


def run(job):
    """Run a job that was started, to its end."""
    Inline(lambda snapshots: None).run(jobs.kinds()[job.kind], str(job.pk), (), job.params)
    job.refresh_from_db()
    return job


def test_the_text_of_a_parameter_never_opens_a_file_of_another_job(run_job, new_kind, shrink):
    class TextForm(forms.Form):
        text = forms.CharField()

    def work(self, text):
        return text

    new_kind(work, form=TextForm)
    name = next(iter(livejobs.start(OWNER, "shrink", {"photo": photo()}).params.values()))
    job = run_job("work", text=name)
    assert job.result == name
    job.delete()
    assert uploads.storage().exists(name)


# Starts


def test_the_row_holds_the_name_and_no_file_is_sent_to_the_broker(shrink, stored):
    job = livejobs.start(OWNER, "shrink", {"photo": photo()})
    job.refresh_from_db()
    assert job.params["photo"].endswith(f"/{job.pk}.0.me.png")
    assert list(stored().values()) == [b"pixels"]


def refused(code, function, *args, **kwargs):
    with pytest.raises(livejobs.Refused) as problem:
        function(*args, **kwargs)
    assert problem.value.code == code
    return problem.value


def test_a_refused_start_leaves_no_file(shrink, stored, settings):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "UNFINISHED_PER_OWNER": 0}
    refused("too_many_jobs", livejobs.start, OWNER, "shrink", {"photo": photo()})
    refused("bad_params", livejobs.start, OWNER, "shrink", {"photo": photo(), "width": 0})
    refused("signed_out", livejobs.start, OWNER, "shrink", {"photo": photo()}, is_authorised=lambda: False)
    refused("bad_ref", livejobs.start, OWNER, "shrink", {"photo": photo()}, "no uuid")
    assert stored() == {}
    assert not Job.objects.exists()


def test_a_start_that_fails_leaves_no_file(shrink, stored, monkeypatch):
    def fail(self, **how):
        raise OSError("no space left on the database's disk")

    monkeypatch.setattr(Job, "save", fail)
    with pytest.raises(OSError, match="no space"):
        livejobs.start(OWNER, "shrink", {"photo": photo()})
    assert stored() == {}


def test_the_same_ref_twice_starts_one_job_and_keeps_one_file(shrink, stored):
    ref = uuid.uuid4()
    first, second = (livejobs.start(OWNER, "shrink", {"photo": photo()}, ref) for _ in range(2))
    assert (first.pk, second.repeated) == (second.pk, True)
    assert list(stored()) == [f"{first.pk}.0.me.png"]


def test_a_file_that_is_too_large_is_refused_before_the_forms_own_code_sees_it(shrink, stored):
    problem = refused("bad_params", livejobs.start, OWNER, "shrink", {"photo": photo(b"x" * 1049)})
    assert (problem.field, str(problem)) == (
        "photo",
        "photo: At most 0.001 MiB can be uploaded. This file is larger.",
    )
    livejobs.start(OWNER, "shrink", {"photo": photo(b"x" * 1048)})
    assert len(stored()) == 1


def test_an_empty_file_is_refused(shrink):
    assert "empty" in str(refused("bad_params", livejobs.start, OWNER, "shrink", {"photo": photo(b"")}))


def test_a_storage_that_is_away_is_told_and_nothing_is_started(new_kind, stored, monkeypatch):
    save = FileSystemStorage.save

    def fail(self, name, content, max_length=None):
        if ".1." in name:
            raise OSError("the bucket is away")
        return save(self, name, content, max_length)

    monkeypatch.setattr(FileSystemStorage, "save", fail)

    def work(self, first, second):
        """Not reached."""

    new_kind(work, form=TwoForm)
    problem = refused("storage_away", livejobs.start, OWNER, "work", {"first": photo(), "second": photo()})
    assert "could not be stored" in str(problem)
    assert stored() == {}
    assert not Job.objects.exists()


class Renaming(InMemoryStorage):
    def get_available_name(self, name, max_length=None):
        return f"{name}.new"


@pytest.fixture
def storage(settings):
    """Sets the storage of uploads to one of a class."""

    def storage(backend):
        settings.STORAGES = {**settings.STORAGES, "uploads": {"BACKEND": backend}}
        settings.LIVEJOBS = {**settings.LIVEJOBS, "UPLOADS": "uploads"}
        return storages["uploads"]

    return storage


def test_files_are_in_the_storage_that_the_project_names(storage, run_job, shrink, stored):
    memory = storage("django.core.files.storage.InMemoryStorage")
    job = run_job("shrink", photo=photo())
    assert shrink == [("me.png", 6, b"pixels", 100)]
    assert memory.exists(job.params["photo"])
    assert stored() == {}
    assert prune.prune(timezone.now()) == (0, 0)
    job.delete()
    assert not memory.exists(job.params["photo"])


def test_a_storage_that_changes_names_is_an_error_and_keeps_nothing(storage, shrink):
    memory = storage(f"{__name__}.Renaming")
    with pytest.raises(ImproperlyConfigured, match="keeps the names"):
        livejobs.start(OWNER, "shrink", {"photo": photo()})
    assert memory.listdir(conf.DEPLOYMENT) == ([], [])


# Retries and deletions


def test_a_job_is_repeated_with_its_file_though_the_first_one_was_deleted(shrink, stored):
    first = livejobs.start(OWNER, "shrink", {"photo": photo(name="my photo.png"), "width": 7})
    livejobs.cancel(OWNER, first.pk)
    again = livejobs.retry(OWNER, first.pk)
    assert again.title == first.title == "Shrink my_photo.png"
    first.delete()
    assert list(stored()) == [f"{again.pk}.0.my_photo.png"]
    assert run(again).state == State.SUCCESS
    assert shrink == [("my_photo.png", 6, b"pixels", 7)]
    again.delete()
    assert stored() == {}


class FakePillow:
    """As much of Pillow, which the tests do not need, as an ImageField uses."""

    MIME = {"PNG": "image/png"}
    EXTENSION = {".png": "PNG"}

    @staticmethod
    def init():
        """All formats are known."""

    @classmethod
    def open(cls, file):
        assert file.read() == b"pixels"
        return SimpleNamespace(format="PNG", verify=lambda: None)


def test_an_image_is_looked_at_for_each_start(run_job, new_kind, monkeypatch):
    class ImageForm(forms.Form):
        photo = forms.ImageField()

    def work(self, photo):
        return photo.read().decode()

    new_kind(work, form=ImageForm)
    monkeypatch.setitem(sys.modules, "PIL", SimpleNamespace(Image=FakePillow))
    assert run_job("work", photo=photo()).result == "pixels"
    job = livejobs.start(OWNER, "work", {"photo": photo()})
    livejobs.cancel(OWNER, job.pk)
    assert run(livejobs.retry(OWNER, job.pk)).result == "pixels"
    assert "valid image" in str(refused("bad_params", livejobs.start, OWNER, "work", {"photo": photo(b"no pixels")}))


def test_a_job_whose_file_is_gone_is_not_repeated(shrink, tmp_path):
    job = livejobs.start(OWNER, "shrink", {"photo": photo()})
    livejobs.cancel(OWNER, job.pk)
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    problem = refused("bad_params", livejobs.retry, OWNER, job.pk)
    assert str(problem).startswith("Your photo: the file that was uploaded is not there any more.")


def test_the_files_of_pruned_jobs_go(shrink, stored):
    for _ in range(3):
        livejobs.start(OWNER, "shrink", {"photo": photo()})
    long_ago = timezone.now() - timedelta(days=31)
    old = Job.objects.order_by("created_at")[:2]
    Job.objects.filter(pk__in=[job.pk for job in old]).update(state=State.SUCCESS, finished_at=long_ago)
    assert prune.prune(timezone.now()) == (0, 2)
    assert list(stored()) == [f"{Job.objects.get().pk}.0.me.png"]


def test_a_deletion_that_is_rolled_back_keeps_the_file(shrink, stored):
    job = livejobs.start(OWNER, "shrink", {"photo": photo()})
    with transaction.atomic():
        Job.objects.all().delete()
        transaction.set_rollback(True)
    assert list(stored()) == [f"{job.pk}.0.me.png"]


def test_a_storage_that_is_away_does_not_hold_up_deletions_and_its_files_go_later(
    shrink, stored, monkeypatch, tmp_path
):
    jobs_of = [livejobs.start(OWNER, "shrink", {"photo": photo()}) for _ in range(2)]

    def fail(self, name):
        raise OSError("the bucket is away")

    with monkeypatch.context() as away:
        away.setattr(FileSystemStorage, "delete", fail)
        jobs_of[0].delete()
    assert len(stored()) == 2
    prune.prune(timezone.now())
    assert len(stored()) == 2, "it may be of a start that is under way"
    age(tmp_path, days=2)
    prune.prune(timezone.now())
    assert list(stored()) == [f"{jobs_of[1].pk}.0.me.png"]


def age(folder, days):
    then = (timezone.now() - timedelta(days=days)).timestamp()
    for path in folder.rglob("*.png"):
        os.utime(path, (then, then))


def test_a_file_whose_start_was_cut_off_is_pruned_and_what_is_not_ours_stays(shrink, stored, tmp_path):
    job = livejobs.start(OWNER, "shrink", {"photo": photo()})
    folder = next(tmp_path.rglob("*.png")).parent
    for name in (f"{uuid.uuid4()}.0.me.png", "notes.png", "a.b.c.png"):
        (folder / name).write_bytes(b"?")
    age(tmp_path, days=2)
    prune.prune(timezone.now())
    assert set(stored()) == {f"{job.pk}.0.me.png", "notes.png", "a.b.c.png"}


def test_jobs_are_pruned_before_anything_has_been_uploaded():
    assert prune.prune(timezone.now()) == (0, 0)


# Pages, the API, sockets


def test_a_form_is_posted_with_its_file_without_scripts(owner, shrink, stored):
    answer = owner.post("/start/shrink/", {"photo": photo(), "width": 3})
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}/"
    assert (job.owner, job.title, job.params["width"]) == (OWNER, "Shrink me.png", 3)
    assert list(stored()) == [f"{job.pk}.0.me.png"]


@pytest.mark.parametrize(
    ("posted", "words"),
    [
        ({}, "This field is required."),
        ({"photo": "me.png"}, "This field is required."),
        ({"photo": photo(b"x" * 2000)}, "At most 0.001 MiB can be uploaded. This file is larger."),
        ({"photo": photo(b"")}, "The submitted file is empty."),
    ],
)
def test_what_is_wrong_with_a_file_is_shown_at_its_field(owner, shrink, stored, posted, words):
    answer = owner.post("/start/shrink/", posted)
    page = answer.content.decode()
    assert answer.status_code == 400
    assert page.index("Your photo") < page.index(words) < page.index("Width")
    assert stored() == {}


def test_a_form_that_is_posted_twice_keeps_one_file(owner, shrink, stored):
    ref = str(uuid.uuid4())
    for _ in range(2):
        owner.post("/start/shrink/", {"photo": photo(), "livejobs_ref": ref})
    assert len(stored()) == Job.objects.count() == 1


def test_a_post_without_the_csrf_token_leaves_no_file(shrink, stored):
    assert Client(enforce_csrf_checks=True).post("/start/shrink/", {"photo": photo()}).status_code == 403
    assert stored() == {}


JSON = {"Accept": "application/json"}


def test_a_script_that_posts_a_form_is_told_what_a_socket_would_be(owner, shrink, stored):
    ref = str(uuid.uuid4())
    answers = [owner.post("/start/shrink/", {"photo": photo(), "livejobs_ref": ref}, headers=JSON) for _ in range(2)]
    job = Job.objects.get()
    assert [answer.json() for answer in answers] == [json.loads(json.dumps(job.snapshot()))] * 2
    assert (str(job.ref), len(stored())) == (ref, 1)
    answer = owner.post("/start/shrink/", {"photo": photo(b""), "livejobs_ref": ref}, headers=JSON)
    assert answer.status_code == 400
    assert answer.json() == {
        "type": "error",
        "code": "bad_params",
        "detail": "photo: The submitted file is empty.",
        "field": "photo",
        "ref": ref,
        "task_id": None,
    }


def test_the_api_takes_a_form_with_a_file(owner, shrink, stored):
    ref = str(uuid.uuid4())
    asked = {"kind": "shrink", "ref": ref, "width": "3"}
    answers = [owner.post("/api/jobs/", {**asked, "photo": photo()}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    job = Job.objects.get()
    assert (str(job.ref), job.params["width"]) == (ref, 3)
    assert list(stored()) == [f"{job.pk}.0.me.png"]
    assert answers[0].json()["task_id"] == str(job.pk)


def test_a_jwt_uploads_too(client, shrink, stored, django_user_model):
    user = django_user_model.objects.create_user(username="ada", email="ada@example.org", password="a long secret")
    answer = client.post("/api/jobs/", {"kind": "shrink", "photo": photo()}, headers=bearer(client, user))
    assert answer.status_code == 201, answer.content
    assert len(stored()) == 1


def test_a_bad_form_is_told_by_the_api_and_leaves_no_file(owner, shrink, stored):
    told(owner.post("/api/jobs/", {"photo": photo()}), 400, "unknown_kind")
    told(owner.post("/api/jobs/", {"kind": photo(), "photo": photo()}), 400, "unknown_kind")
    told(owner.post("/api/jobs/", {"kind": "shrink", "photo": photo(), "width": "0"}), 400, "bad_params")
    told(owner.post("/api/jobs/", {"kind": "shrink", "photo": photo(), "ref": "?"}), 400, "bad_ref")
    large = told(owner.post("/api/jobs/", {"kind": "shrink", "photo": photo(b"x" * 2000)}), 400, "bad_params")
    assert large["field"] == "photo"
    guarded = Client(enforce_csrf_checks=True)
    guarded.cookies["sessionid"] = owner.cookies["sessionid"].value
    told(guarded.post("/api/jobs/", {"kind": "shrink", "photo": photo()}), 403, "permission_denied")
    headers = {"Authorization": "Bearer x"}
    assert owner.post("/api/jobs/", {"kind": "shrink", "photo": photo()}, headers=headers).status_code == 401
    assert stored() == {}
    assert not Job.objects.exists()


def test_a_form_that_cannot_be_read_is_told_by_the_api(owner, settings):
    told(owner.post("/api/jobs/", b"?", content_type="multipart/form-data"), 400, "parse_error")
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    told(owner.post("/api/jobs/", {"kind": "count_primes", "below": "1" * 200}), 413, "body_too_large")


NEEDS_HTTP = "photo: Send the file over HTTP, as multipart/form-data. JSON cannot carry it."


@pytest.mark.parametrize(
    "params", [{}, {"photo": "me.png"}, {"photo": {"name": "me.png", "size": 3}}, {"photo": ["a"]}]
)
def test_json_without_a_file_is_told_to_use_a_form(owner, shrink, params):
    answer = post(owner, "/api/jobs/", {"kind": "shrink", "params": params})
    assert told(answer, 400, "bad_params")["detail"] == NEEDS_HTTP


async def test_a_socket_is_told_to_use_http(socket, shrink):
    visitor = await socket()
    await visitor.send(type="start", kind="shrink", params={"width": 3})
    frame = await visitor.frame()
    assert (frame["code"], frame["field"], frame["detail"]) == ("bad_params", "photo", NEEDS_HTTP)
