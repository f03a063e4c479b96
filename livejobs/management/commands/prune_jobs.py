"""`manage.py prune_jobs`: for cron, where no `celery beat` runs."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from livejobs.prune import prune


class Command(BaseCommand):
    """Deletes what is stored of jobs that ended long ago: files after FILES_KEEP_HOURS, rows after KEEP_DAYS."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete it, and say how much."""
        deleted_files, jobs = prune(timezone.now())
        self.stdout.write(f"Files deleted: {deleted_files}. Jobs deleted: {jobs}.")
