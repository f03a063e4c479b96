"""The kinds of job: which tasks there are, and which of them visitors may start."""

import threading
from functools import cache

from celery import current_app

from livejobs.task import JobTask

#: Celery's autodiscovery does its work for the first thread that asks, and lets a second one go on before it is done.
LOADING = threading.Lock()


@cache
def kinds() -> dict[str, JobTask]:
    """Return every kind of job and the task it runs, from the `tasks.py` of every installed app."""
    load_kinds()
    return {kind_of(name): task for name, task in current_app.tasks.items() if isinstance(task, JobTask)}


def load_kinds() -> None:
    """Import the `tasks.py` of every installed app, and whatever else Celery is told to import."""
    with LOADING:
        current_app.loader.import_default_modules()


def kind_of(name: str) -> str:
    """Return the kind of job that a task runs, from the task's name."""
    return name.rpartition(".")[2]


def queue_of(kind: str) -> str | None:
    """Return the name of the queue in which jobs of a kind wait.

    It is None for a kind that this process does not know, or that is sent to an exchange without a queue's name.
    """
    task = kinds().get(kind)
    queue = current_app.amqp.router.route({}, task.name).get("queue") if task else None
    return queue.name if queue else None


def startable() -> list[str]:
    """Return the kinds that visitors may start themselves."""
    return sorted(kind for kind, task in kinds().items() if task.startable)
