"""The Celery application: `celery -A CeleryProgressbar worker`."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_init
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "CeleryProgressbar.settings")

TRANSPORT_ALIASES["filesystem"] = "livejobs.under.filesystem:Transport"
TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = "livejobs.under.redis_broker:Transport"

app = Celery("CeleryProgressbar", amqp="livejobs.under.broker:AMQP")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect
def keep_connections(**kwargs: Any) -> None:
    """Let each child of a worker keep one connection to the database. Only web processes use a connection pool.

    Celery closes a pool before each fork and after each task: an empty job then took three times as long.

    Args:
        **kwargs: as Celery has them; not used.
    """
    from django.db import connections

    for options in connections.settings.values():
        if options["OPTIONS"].pop("pool", None):
            options["CONN_MAX_AGE"] = None
