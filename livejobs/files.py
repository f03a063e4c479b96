"""The files that jobs make: where they are, how they appear whole, and when they go.

A task that makes a file writes it in `with writing(self.request.id) as path` and returns {"file": "<its name>", ...}:
so the name reaches the row, and the file is there, before the end is told. A file lies under its job's id;
its name is only what a browser saves it as. A task that makes several files writes each in
`with writing(self.request.id, name) as path` and returns {"files": [<their names>], ...}: they lie in a folder of the
job.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from django.core.exceptions import ImproperlyConfigured
from django.db.models import F, Q

from livejobs.conf import conf
from livejobs.models import Job
from livejobs.result import is_file_name


def path_of(task_id: str, name: str = "") -> Path:
    """Return the path of a job's file, which need not exist yet.

    Args:
        task_id: the job's id.
        name: which one of several files; empty for the only one.

    Raises:
        ValueError: the name is a path.
    """
    if not name:
        return _folder() / task_id
    if not is_file_name(name):
        raise ValueError(f"{name!r} is no name of a file: give one without a folder, of at most 255 bytes.")
    return _folder() / f"{task_id}.files" / name


@contextmanager
def writing(task_id: str, name: str = "") -> Iterator[Path]:
    """Give a path to write a job's file to; when the block ends well, the file takes its place in one step.

    An attempt that runs again, or twice at the same time, writes aside too: the place has a whole file or none.

    Args:
        task_id: the job's id.
        name: which one of several files; empty for the only one.

    Raises:
        ValueError: the name is a path.
    """
    place = path_of(task_id, name)
    _folder().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{task_id}.", dir=_folder(), ignore_cleanup_errors=True) as aside:
        path = Path(aside, "file")
        yield path
        place.parent.mkdir(exist_ok=True)
        path.replace(place)


def give(task_id: str, to: str) -> None:
    """Let another job have the files of a job; what was given already stays where it is.

    Args:
        task_id: the id of the job that has made them.
        to: the id of the other job.
    """
    for suffix in ("", ".files"):
        made = _folder() / f"{task_id}{suffix}"
        if made.exists():
            made.replace(_folder() / f"{to}{suffix}")


def delete_old(now: datetime) -> int:
    """Delete the files of jobs that ended `FILES_KEEP_HOURS` ago, and what no job will ever ask for.

    The rows are told first: no row names a file that is gone. A file of a job that has not ended stays, however old.

    Args:
        now: the present moment.

    Returns:
        How many jobs have lost their files.
    """
    old = Job.objects.exclude(file="").filter(finished_at__lte=now - timedelta(hours=conf.FILES_KEEP_HOURS))
    count = old.update(file="", seq=F("seq") + 1)
    # Listed before the rows are asked: whatever appears meanwhile is not looked at.
    present = {path: path.name.partition(".")[0] for path in _folder().glob("*-*")}
    ids = list(present.values())
    wanted = set()
    for start in range(0, len(ids), 500):
        jobs = Job.objects.filter(Q(finished_at=None) | ~Q(file=""), pk__in=ids[start : start + 500])
        wanted |= {str(pk) for pk in jobs.values_list("pk", flat=True)}
    for path, task_id in present.items():
        if task_id not in wanted:
            _delete(path)
    return count


def _folder() -> Path:
    if conf.FILES_DIR is None:
        raise ImproperlyConfigured('A job makes a file, and LIVEJOBS["FILES_DIR"] does not say where: give a folder.')
    return Path(conf.FILES_DIR)


def _delete(path: Path) -> None:
    if path.is_dir():
        rmtree(path, ignore_errors=True)  # of an attempt that was killed, or is just ending
    else:
        path.unlink(missing_ok=True)
