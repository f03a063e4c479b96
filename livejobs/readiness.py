"""What jobs need, and whether it is there: for a probe, and for an operator who asks why nothing moves."""

from collections.abc import Callable

from celery import current_app
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from livejobs.backend import REPLY_QUEUE
from livejobs.hub import hub
from livejobs.models import RelayLease, Worker

OK = "ok"


def readiness() -> dict[str, str]:
    """Return the state of each part that jobs need: `ok`, or what is wrong with it. It waits for them: use a thread.

    A part behind the database is not asked while that is away.
    """
    parts: dict[str, Callable[[], str]] = {
        "database": _database,
        "broker": _broker,
        "layer": _layer,
        "migrations": _migrations,
        "relay": _relay,
        "workers": _workers,
    }
    states: dict[str, str] = {}
    for name, look in parts.items():
        is_row = name in ("migrations", "relay", "workers")
        try:
            states[name] = "unknown: the database is away" if is_row and states["database"] != OK else look()
        except Exception as problem:
            states[name] = f"away: {type(problem).__name__}"  # its text may hold an address with a password
    return states


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return OK


def _broker() -> str:
    with current_app.connection_for_write() as broker:
        broker.connect()
    return OK


def _layer() -> str:
    if not hub.is_open:
        return "closed in this process"
    return f"away: {', '.join(sorted(hub.layer.failing))}" if hub.layer.failing else OK


def _migrations() -> str:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return f"{len(missing)} are not applied: run manage.py migrate" if missing else OK


def _relay() -> str:
    held = RelayLease.objects.filter(queue=REPLY_QUEUE.name, holder__isnull=False).exists()
    return OK if held else "no process relays: start a web process, or manage.py run_relay"


def _workers() -> str:
    return OK if Worker.objects.alive().exists() else "no worker is alive"
