"""The files that jobs are started with: stored before the row, opened by each attempt, and deleted with the row.

A file's name in the storage has the id of its job, so no job can name another one's file. A job that repeats another
one gets copies, so that each file goes with its own job.
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils.text import get_valid_filename

from livejobs.conf import conf
from livejobs.models import Job
from livejobs.refused import Refused

logger = logging.getLogger(__name__)

#: Bytes that are kept of a file's own name: with the job's id before it, every file system takes it.
NAME = 150
#: How old a file without a row is before it is deleted: the start of a younger one may still be under way.
ORPHANED = timedelta(days=1)

NO_STORAGE = "LIVEJOBS has neither FILES_DIR nor UPLOADS, so there is no storage for files that are uploaded."
RENAMED = "The storage that UPLOADS of LIVEJOBS names has stored {!r} as {!r}. Use one that keeps the names."
AWAY = "The file could not be stored. Start the job again in a moment."


class Upload(File):  # type: ignore[type-arg]  # it cannot be subscripted at run time
    """A file that was uploaded, as a task gets it: opened when it is first read.

    Args:
        stored: its name in the storage.
    """

    def __init__(self, stored: str) -> None:
        self.stored = stored
        self.opened: Any = None
        self.name = stored.rpartition("/")[2].split(".", 2)[2]

    @property
    def file(self) -> Any:  # type: ignore[override]
        """The open file; it is opened now if it has not been before."""
        if self.opened is None:
            self.opened = storage().open(self.stored)
        return self.opened

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return storage().size(self.stored)

    @property
    def closed(self) -> bool:
        """Whether it has been closed. One that has not been opened yet is open to all who ask."""
        return self.opened is not None and self.opened.closed

    def open(self, *args: Any, **kwargs: Any) -> "Upload":
        """Go to the beginning; after `close`, open it again."""
        if self.closed:
            self.opened = None
        self.seek(0)
        return self

    def close(self) -> None:
        """Close it, if it was opened."""
        if self.opened is not None:
            self.opened.close()


def storage() -> Storage:
    """Return the storage of uploaded files.

    Raises:
        ImproperlyConfigured: none is set, or there is none of that name.
    """
    if conf.UPLOADS:
        return storages[conf.UPLOADS]
    if conf.FILES_DIR is None:
        raise ImproperlyConfigured(NO_STORAGE)
    return FileSystemStorage(Path(conf.FILES_DIR) / "uploads")


def name_files(job: Job, cleaned: Mapping[str, Any]) -> dict[str, Any]:
    """Give each file of a job that is to be started a name of its own in the storage; `store` stores it.

    Args:
        job: which has no row yet.
        cleaned: its parameters, as a form has cleaned them.

    Returns:
        The parameters, with names in the storage in place of files.
    """
    job.uploads = {}

    def stored(value: Any) -> Any:
        if not isinstance(value, File):
            return value
        own = _clean(value.name or "")
        if isinstance(value, UploadedFile):
            value.name = own  # for the title
        name = f"{conf.DEPLOYMENT}/{job.pk}.{len(job.uploads)}.{own}"
        job.uploads[name] = value
        return name

    return {
        name: [*map(stored, value)] if isinstance(value, list) else stored(value) for name, value in cleaned.items()
    }


def _clean(name: str) -> str:
    """Return a file's name as every storage takes it: letters, digits, and a few signs, of a limited length."""
    try:
        valid = get_valid_filename(name.replace("\\", "/").rpartition("/")[2].lstrip("."))
    except SuspiciousFileOperation:  # nothing is left of it
        return "file"
    return valid.encode()[-NAME:].decode(errors="ignore")  # the end says what it is


def store(job: Job) -> ExitStack:
    """Store the files of a job that is to be started.

    Args:
        job: which has no row yet.

    Returns:
        A context: when it is left, the files are deleted again, unless its `pop_all` was called.

    Raises:
        Refused: `storage_away`.
    """
    with ExitStack() as undo:
        for name, file in job.uploads.items():
            undo.callback(_delete, name)
            try:
                stored = storage().save(name, file)
            except Exception as problem:
                logger.exception("The file %s could not be stored", name)
                raise Refused("storage_away", AWAY) from problem
            finally:
                if isinstance(file, Upload):
                    file.close()
            if stored != name:
                undo.callback(_delete, stored)
                raise ImproperlyConfigured(RENAMED.format(name, stored))
        return undo.pop_all()


def opened(task_id: Any, value: Any) -> Any:
    """Return a parameter of a job, with the files that were uploaded for the job in place of their names.

    Args:
        task_id: the job's id. Names of other jobs' files stay what they are, text.
        value: as the row has it.

    Raises:
        FileNotFoundError: such a file is not there any more.
    """
    if isinstance(value, list) and any(_is_of(task_id, one) for one in value):
        return [opened(task_id, one) for one in value]
    if not _is_of(task_id, value):
        return value
    if not storage().exists(value):
        raise FileNotFoundError(value)
    return Upload(value)


def close(params: Mapping[str, Any]) -> None:
    """Close the uploaded files among the parameters of a task."""
    for value in params.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Upload):
                one.close()


def _is_of(task_id: Any, value: Any) -> bool:
    """Tell whether a value is the name of a file of this job. Nobody knows the id before the job is started."""
    return isinstance(value, str) and value.partition("/")[2].startswith(f"{task_id}.")


@receiver(post_delete, sender=Job)
def delete_with_the_row(instance: Job, **kwargs: Any) -> None:
    """Delete the uploaded files of a deleted job, on commit."""
    for value in instance.params.values():
        for one in value if isinstance(value, list) else [value]:
            if _is_of(instance.pk, one):
                transaction.on_commit(partial(_delete, one), robust=True)


def delete_orphans(now: datetime) -> int:
    """Delete files without a row: their start was cut off, or their storage was away when the row was deleted.

    Args:
        now: the present moment.

    Returns:
        How many.
    """
    try:
        _, files = storage().listdir(conf.DEPLOYMENT)
    except FileNotFoundError:  # nothing has been uploaded yet
        return 0
    by_job: dict[UUID, list[str]] = {}
    for file in files:
        try:
            by_job.setdefault(UUID(file.partition(".")[0]), []).append(f"{conf.DEPLOYMENT}/{file}")
        except ValueError:
            continue  # not ours
    ids = list(by_job)
    for start in range(0, len(ids), 500):
        for pk in Job.objects.filter(pk__in=ids[start : start + 500]).values_list("pk", flat=True):
            del by_job[pk]
    orphans = [file for files in by_job.values() for file in files]
    return sum(_is_old(file, now) and _delete(file) for file in orphans)


def _is_old(name: str, now: datetime) -> bool:
    try:
        return storage().get_modified_time(name) < now - ORPHANED
    except FileNotFoundError:  # its start was refused meanwhile
        return False


def _delete(name: str) -> bool:
    """Delete a file, and tell whether that went well. If not, then it is an orphan, which `delete_orphans` finds."""
    try:
        storage().delete(name)
    except Exception:
        logger.exception("The file %s could not be deleted", name)
        return False
    return True
