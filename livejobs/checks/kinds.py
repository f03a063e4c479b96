"""Checks the kinds of job: what would fail at the first START, or run another task than the one that is meant."""

from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from string import Formatter
from traceback import extract_tb
from typing import Any

from celery import current_app
from django import forms
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from livejobs import uploads
from livejobs.kinds import LOADING, kind_of, load_kinds
from livejobs.task import JobTask

UPLOADS_REMEDY = (
    'In LIVEJOBS, give "FILES_DIR" a folder that web processes and workers share, or "UPLOADS" the name of a storage '
    "in STORAGES."
)


@register
def kinds_can_be_started(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell of tasks that cannot be imported, of two kinds of one name, and of forms and titles that do not fit."""
    if LOADING.locked():
        return  # Celery runs the checks as it imports the tasks
    try:
        load_kinds()
    except Exception as problem:
        yield Error(
            f"The project's tasks cannot be imported: {type(problem).__name__}: {problem}.",
            hint=f"Correct {_place(problem)}.",
            id="livejobs.E008",
        )
        return
    by_kind = defaultdict(list)
    for name, task in current_app.tasks.items():
        if isinstance(task, JobTask):
            by_kind[kind_of(name)].append(name)
            yield from _title(name, task)
            yield from _form(name, task)
            yield from _stages(name, task)
    for kind, names in by_kind.items():
        if len(names) > 1:
            yield Error(
                f"Several tasks are of the kind {kind!r}: {', '.join(sorted(names))}.",
                hint="A kind is the last part of a task's name: rename all but one of the functions.",
                id="livejobs.E009",
            )


def _place(problem: Exception) -> str:
    """Return the file and the line of an exception; those of the text itself if it cannot be parsed."""
    if isinstance(problem, SyntaxError):
        return f"{problem.filename}, line {problem.lineno}"
    last = extract_tb(problem.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}"


def _title(name: str, task: JobTask) -> Iterator[CheckMessage]:
    known = ", ".join(task.form.base_fields) or "none"
    try:
        named = [field for _, field, _, _ in Formatter().parse(task.title) if field is not None]
    except ValueError as problem:
        yield Error(
            f"The title of {name} is no format string: {problem}.", id="livejobs.E010", hint="Double braces: {{."
        )
        return
    for field in named:
        if field.partition(".")[0].partition("[")[0] not in task.form.base_fields:
            yield Error(
                f"The title of {name} names {field!r}, which its form does not have.",
                hint=f"Fields of {task.form.__name__}: {known}.",
                id="livejobs.E010",
            )


def _stages(name: str, task: JobTask) -> Iterator[CheckMessage]:
    try:
        names = [stage for stage, weight in task.stages if isinstance(stage, str) and stage and float(weight) > 0]
        fitting = len(set(names)) == len(task.stages)
    except (TypeError, ValueError):
        fitting = False
    if not fitting:
        yield Error(
            f"The stages of {name} cannot be used: {task.stages!r:.200}.",
            hint='Give pairs of a name and a weight above 0, each name once: stages=[("Fetch", 1), ("Resize", 3)].',
            id="livejobs.E012",
        )


def _form(name: str, task: JobTask) -> Iterator[CheckMessage]:
    for field, what in task.form.base_fields.items():
        about = f"{name}: {field!r} of {task.form.__name__} is a {type(what).__name__}"
        if isinstance(what, forms.MultiValueField):
            if any(isinstance(part, forms.FileField) for part in what.fields):
                yield Error(f"{about} with a file, which no job can store.", hint="Use two fields.", id="livejobs.E011")
            elif not isinstance(what.widget, forms.MultiWidget):
                yield Error(
                    f"{about} whose widget is no MultiWidget, so that no job can store its parts.",
                    hint="Give it a MultiWidget, whose decompress() returns the parts; or use several fields.",
                    id="livejobs.E011",
                )
        elif isinstance(what, forms.ImageField) and not find_spec("PIL"):
            yield Error(f"{about}, which needs Pillow.", hint="pip install pillow", id="livejobs.E011")
        elif isinstance(what, forms.FileField):
            try:
                uploads.storage()
            except ImproperlyConfigured as problem:
                yield Error(f"{about}: {problem}", hint=UPLOADS_REMEDY, id="livejobs.E013")
