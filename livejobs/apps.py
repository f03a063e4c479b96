"""This app."""

from typing import Any

from celery.signals import worker_init
from django.apps import AppConfig


class LivejobsConfig(AppConfig):
    """Registers the system checks, the receivers of signals and the worker's lease, in every process."""

    name = "livejobs"

    def ready(self) -> None:
        """Import what registers itself: a row that is deleted in a shell is announced by a receiver in jobs.py."""
        from livejobs import checks, jobs  # noqa: F401

        worker_init.connect(extend_worker)


def extend_worker(sender: Any, **kwargs: Any) -> None:
    """Add the lease, and the command that stops a job, to a worker that starts.

    Source: Celery, "Extensions and Bootsteps".

    Args:
        sender: the worker.
        **kwargs: as Celery has them; not used.
    """
    from livejobs import worker_request  # noqa: F401  # it registers the command

    sender.app.steps["worker"].add("livejobs.lease:Lease")
