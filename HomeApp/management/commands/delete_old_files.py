"""`manage.py delete_old_files`: for cron, where no `celery beat` runs."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from livejobs import files


class Command(BaseCommand):
    """Deletes the files of jobs that ended FILES_KEEP_HOURS ago."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete them, and say how many."""
        self.stdout.write(f"Files deleted: {files.delete_old(timezone.now())}")
