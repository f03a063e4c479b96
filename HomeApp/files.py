"""The files that jobs make: where they are, how they appear whole, and when they go.

A task that makes a file writes it in `with writing(self.request.id) as path` and returns {"file": "<its name>", ...}:
so the name reaches the row, and the file is there, before anybody is told of the end. A file lies under its job's id;
its name is only what a browser saves it as.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from django.conf import settings
from django.db.models import F, Q

from HomeApp.models import Job


def path_of(task_id: str) -> Path:
    """Return where a job's file is, or will be."""
    return settings.FILES_DIR / task_id


@contextmanager
def writing(task_id: str) -> Iterator[Path]:
    """Give a path to write a job's file to; when the block ends well, the file takes its place in one step.

    An attempt that runs again, or twice at the same time, writes aside too: the place has a whole file or none.

    Args:
        task_id: the job's id.
    """
    settings.FILES_DIR.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{task_id}.", dir=settings.FILES_DIR, ignore_cleanup_errors=True) as aside:
        path = Path(aside, "file")
        yield path
        path.replace(path_of(task_id))


def delete_old(now: datetime) -> int:
    """Delete the files of jobs that ended `FILES_KEEP_HOURS` ago, and what no job will ever ask for.

    The rows are told first: no row names a file that is gone. A file of a job that has not ended stays, however old.

    Args:
        now: the present moment.

    Returns:
        How many jobs have lost their file.
    """
    old = Job.objects.exclude(file="").filter(finished_at__lte=now - timedelta(hours=settings.FILES_KEEP_HOURS))
    count = old.update(file="", seq=F("seq") + 1)
    # Listed before the rows are asked: whatever appears meanwhile is not looked at.
    present = {path: path.name.partition(".")[0] for path in settings.FILES_DIR.glob("*-*")}
    ids = list(present.values())
    wanted = set()
    for start in range(0, len(ids), 500):
        jobs = Job.objects.filter(Q(finished_at=None) | ~Q(file=""), pk__in=ids[start : start + 500])
        wanted |= {str(pk) for pk in jobs.values_list("pk", flat=True)}
    for path, task_id in present.items():
        if task_id not in wanted:
            _delete(path)
    return count


def _delete(path: Path) -> None:
    if path.is_dir():
        rmtree(path, ignore_errors=True)  # of an attempt that was killed, or is just ending
    else:
        path.unlink(missing_ok=True)
