"""The Excel export: whose jobs, in which columns."""

import json
from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model

from livejobs.models import Job, percent_of

#: Who may see everybody's jobs in the admin may export them.
PERMISSION = "livejobs.view_job"
FORBIDDEN = "You may not export everybody's jobs. Leave it unticked to export your own."
#: Rows fetched from the database at a time.
CHUNK = 2_000

#: Heading, and width in characters.
COLUMNS = [
    ("Job", 32),
    ("Kind", 16),
    ("State", 10),
    ("Percent", 8),
    ("Attempt", 8),
    ("Created (UTC)", 19),
    ("Started (UTC)", 19),
    ("Finished (UTC)", 19),
    ("Parameters", 24),
    ("Result", 24),
    ("Error", 32),
    ("Task id", 36),
    ("Owner", 40),
]
FIELDS = (
    *(
        "title",
        "kind",
        "state",
        "current",
        "total",
        "reached",
        "stage_index",
        "attempt",
        "created_at",
        "started_at",
        "finished_at",
    ),
    *("params", "result", "error", "id", "owner"),
)


def may_export_everybody(owner: str) -> bool:
    """Tell whether an owner may export everybody's jobs: an active user who has `PERMISSION`."""
    prefix, _, pk = owner.partition("-")
    user = get_user_model().objects.filter(pk=pk).first() if prefix == "user" else None
    return user is not None and user.has_perm(PERMISSION)


def rows(owner: str, everybody: bool) -> tuple[int, Iterator[list[Any]]]:
    """Return how many jobs there are to export, and their rows, oldest first.

    Args:
        owner: whose jobs.
        everybody: or all that there are.
    """
    jobs = Job.objects.all() if everybody else Job.objects.filter(owner=owner)
    values = jobs.order_by("created_at").values_list(*FIELDS).iterator(chunk_size=CHUNK)
    return jobs.count(), map(_row, values)


def _row(values: tuple[Any, ...]) -> list[Any]:
    title, kind, state, current, total, reached, stage, *moments, params, result, error, task_id, owner = values
    answer = [_text(params), _text(result), error, str(task_id), owner]
    return [title, kind, state, reached if stage else percent_of(current, total, reached), *moments, *answer]


def _text(value: Any) -> Any:
    """Return JSON as a cell has it: numbers and text as they are, all else as JSON's text."""
    plain = value is None or isinstance(value, str | float | bool)
    # A cell's number is a double: an integer with more digits would lose some of them.
    if plain or (isinstance(value, int) and abs(value) < 2**53):
        return value
    return json.dumps(value, ensure_ascii=False)
