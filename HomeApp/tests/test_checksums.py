"""Checksums of the files in a zip archive."""

import hashlib
import io
import subprocess
import zipfile

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from HomeApp import checksums
from livejobs import files, jobs
from livejobs.inline import Inline
from livejobs.models import Job
from livejobs.refused import Refused
from livejobs.testing import assert_truthful, run_job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "FILES_DIR": str(tmp_path / "files")}


def zipped(contents: dict[str, bytes], **options) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", **options) as writing:
        for name, content in contents.items():
            writing.writestr(name, content)
    return archive.getvalue()


def upload(content: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile("photos.zip", content)


def test_every_file_has_its_line_and_sha256sum_agrees(tmp_path):
    contents = {f"folder/{number}.txt": b"x" * number for number in range(120)} | {"a\\b\nc": b"odd", "empty/": b""}
    job = run_job("checksums", archive=upload(zipped(contents)))
    assert (job.state, job.title, job.result["summary"]) == (
        "SUCCESS",
        "Checksums of photos.zip",
        "Checksums in the file: 121.",
    )
    assert job.children["total"] == 3
    assert_truthful(job.snapshots)
    text = files.path_of(str(job.pk)).read_text()
    assert f"{hashlib.sha256(b'x' * 7).hexdigest()}  folder/7.txt\n" in text
    for name, content in contents.items():
        if not name.endswith("/"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
    (tmp_path / "SHA256SUMS").write_text(text)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_a_damaged_file_is_named(tmp_path):
    content = bytearray(zipped({"good.txt": b"good", "bad.txt": b"bad" * 100}))
    content[content.index(b"badbad") + 2] ^= 1
    job = run_job("checksums", archive=upload(bytes(content)))
    assert (job.state, job.error) == ("FAILURE", "1 of 1 parts failed: Part 1.")
    assert Job.objects.get(parent=job).error == "bad.txt cannot be read: the zip file is damaged."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no zip", checksums.NO_ZIP),
        (zipped({"folder/": b""}), checksums.EMPTY),
        (zipped({"n" * 1001: b""}), checksums.LONG_NAME),
    ],
)
def test_what_cannot_be_read_is_refused(content, words):
    with pytest.raises(Refused, match=words):
        run_job("checksums", archive=upload(content))


@pytest.mark.parametrize(("limit", "words"), [("MOST_FILES", checksums.TOO_MANY), ("MOST_BYTES", checksums.TOO_LARGE)])
def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch, limit, words):
    monkeypatch.setattr(checksums, limit, 3)
    with pytest.raises(Refused, match=words):
        run_job("checksums", archive=upload(zipped({f"{number}": b"xx" for number in range(4)})))


def test_parts_are_limited_by_files_and_by_bytes(monkeypatch):
    monkeypatch.setattr(checksums, "PART_FILES", 3)
    monkeypatch.setattr(checksums, "PART_BYTES", 10)
    archive = io.BytesIO(zipped({str(number): b"x" * size for number, size in enumerate([1, 1, 1, 1, 9, 20, 1])}))
    assert checksums.parts(archive, list) == [(0, 3, 3), (3, 2, 10), (5, 1, 20), (6, 1, 1)]


def test_a_retry_computes_only_the_parts_that_have_failed(monkeypatch):
    monkeypatch.setattr(checksums, "PART_FILES", 1)
    contents = {f"{number}.txt": b"%d" % number for number in range(3)}
    computed, compute = [], checksums.checksums

    def fail_once(archive, first, count, track):
        computed.append(first)
        if computed == [0, 1]:
            raise checksums.BadArchive("The disk is full.")
        return compute(archive, first, count, track)

    monkeypatch.setattr(checksums, "checksums", fail_once)
    first = run_job("checksums", archive=upload(zipped(contents)))
    assert (first.state, first.error) == ("FAILURE", "1 of 3 parts failed: Part 2.")
    computed.clear()
    again = jobs.retry(first.owner, first.pk)
    Inline(lambda snapshots: None).run(jobs.kinds()[again.kind], str(again.pk), (), again.params)
    again.refresh_from_db()
    assert (again.state, again.result["summary"], computed) == ("SUCCESS", "Checksums in the file: 3.", [1])
