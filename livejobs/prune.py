"""What is stored of jobs that ended long ago is deleted, in batches: `manage.py prune_jobs`, or a periodic task."""

from datetime import datetime, timedelta

from livejobs import files, uploads
from livejobs.conf import conf
from livejobs.models import Job

#: Rows that one statement deletes: no lock is held for long.
BATCH = 500


def prune(now: datetime) -> tuple[int, int]:
    """Delete the files of jobs that ended `FILES_KEEP_HOURS` ago, and the rows of those that ended `KEEP_DAYS` ago.

    What other apps have stored of a job goes with its row, as their foreign keys say, and so do the files that it was
    started with. Files of starts that were cut off go too. No page is told: it shows such a
    job only if the owner has no more recent ones.

    Args:
        now: the present moment.

    Returns:
        How many jobs have lost their file, and how many rows were deleted.
    """
    deleted_files = files.delete_old(now) if conf.FILES_DIR else 0
    if conf.FILES_DIR or conf.UPLOADS:
        uploads.delete_orphans(now)
    if conf.KEEP_DAYS is None:
        return deleted_files, 0
    old = Job.objects.filter(finished_at__lt=now - timedelta(days=conf.KEEP_DAYS)).order_by("finished_at")
    old = old.exclude(parent__isnull=False, parent__finished_at=None)  # their parent still counts them
    count = 0
    while keys := list(old.values_list("pk", flat=True)[:BATCH]):
        batch = Job.objects.filter(pk__in=keys)
        batch.is_pruned = True
        batch.delete()
        count += len(keys)
    return deleted_files, count
