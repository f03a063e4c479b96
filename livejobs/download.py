"""The download of the files that a job has made."""

import asyncio
from collections.abc import AsyncIterator

from django.http import FileResponse

from livejobs import files
from livejobs.models import Job
from livejobs.refused import Refused
from livejobs.result import file_of, files_of

NO_FILE = "This job has no file."
FILE_DELETED = "The file has been deleted."


class StreamedFile(FileResponse):
    """A file, sent piece by piece under ASGI too: there, Django 5.2's own reads all of it into memory first."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces; a thread reads them, as a disk may be slow."""
        pieces = iter(self)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece


def file_response(job: Job, name: str = "") -> FileResponse:
    """Return the response that sends a file of a job.

    Args:
        job: which one.
        name: which one of several files; the first one unless given.

    Raises:
        Refused: `no_file`, or `file_deleted` if the job has made one.
    """
    names = files_of(job.result)
    if name and name not in names:
        raise Refused("no_file", NO_FILE)
    if not file_of(job.result):
        name = name or next(iter(names), "")
    try:
        file = files.path_of(str(job.pk), name).open("rb") if job.file else None
    except FileNotFoundError:
        file = None
    if file is None:
        raise Refused("no_file", NO_FILE) if job.files is None else Refused("file_deleted", FILE_DELETED)
    return StreamedFile(file, as_attachment=True, filename=name or job.file)
