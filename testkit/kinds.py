"""Kinds of jobs that exist for one test."""

import pytest
from celery import current_app

from livejobs import jobs
from livejobs.task import JobTask


@pytest.fixture
def new_kind():
    """Makes a kind of job of a function: `new_kind(function, **options of the task)` returns its task."""
    names = []

    def new_kind(function, **options):
        name = f"tests.{function.__name__}"
        names.append(name)
        jobs.kinds.cache_clear()
        return current_app.task(function, base=JobTask, bind=True, name=name, **options)

    yield new_kind
    for name in names:
        current_app.tasks.pop(name, None)
    jobs.kinds.cache_clear()
