"""The project's own tasks."""

from time import sleep

from celery import shared_task
from celery_progress.backend import ProgressRecorder


@shared_task
def add(a, b):
    """Add two numbers."""
    return a + b


@shared_task
def total(numbers):
    """Add many numbers."""
    return sum(numbers)


@shared_task(bind=True)
def import_stock(self):
    """Report to celery-progress."""
    recorder = ProgressRecorder(self)
    for shelf in range(20):
        sleep(0.05)
        recorder.set_progress(shelf + 1, 20, "Importing")
    return 20


@shared_task(bind=True)
def export_stock(self):
    """Report to celery-progress, and fail."""
    ProgressRecorder(self).set_progress(1, 4, "Exporting")
    raise ValueError("no paper")


@shared_task
def recount():
    """Count the goods of all shelves."""
    goods = 0
    for shelf in range(40):
        sleep(0.1)
        goods += shelf
    return goods
