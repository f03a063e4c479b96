"""Checks the database that holds the jobs."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.db import connections, router

#: The databases whose locks and statements the engine knows: the limit of an owner's jobs depends on them.
SUPPORTED = ("postgresql", "sqlite")


@register
def database_is_supported(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell if the jobs are in a database on which the engine has not been tried."""
    from livejobs.models import Job

    alias = router.db_for_write(Job)
    vendor = connections[alias].vendor
    if vendor not in SUPPORTED:
        yield Error(
            f"livejobs does not support the database of its jobs, {alias!r}: it is {vendor!r}.",
            hint="Use PostgreSQL or SQLite: DATABASE_ROUTERS can give the app livejobs a database of its own.",
            id="livejobs.E007",
        )
