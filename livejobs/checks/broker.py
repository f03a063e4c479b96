"""Checks Celery's settings of the broker: what they lose or repeat without a word."""

from collections.abc import Iterator
from typing import Any

from celery import current_app
from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as CheckWarning

from livejobs.conf import DEFAULTS, conf

#: Seconds. Redis's default is an hour; a task that waits longer than this is delivered to a second worker, too.
SHORT_VISIBILITY = 600


@register
def jobs_run_in_workers(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell of eager mode."""
    if current_app.conf.task_always_eager:
        yield CheckWarning(
            "Celery's eager mode is on: a job runs in the request that starts it, and no page sees its progress.",
            hint="Set CELERY_TASK_ALWAYS_EAGER to False outside tests.",
            id="livejobs.W003",
        )


@register
def the_broker_confirms(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell if RabbitMQ does not confirm messages, or ends workers whose job lasts long."""
    if _scheme() not in ("amqp", "amqps", "pyamqp"):
        return
    if not (current_app.conf.broker_transport_options or {}).get("confirm_publish"):
        yield CheckWarning(
            "RabbitMQ is not asked to confirm messages: a start or the end of a job can be lost with the connection.",
            hint='Set CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}.',
            id="livejobs.W004",
        )
    if not current_app.conf.broker_channel_error_retry:
        yield CheckWarning(
            "A worker takes no more jobs after RabbitMQ's acknowledgement timeout, 30 minutes after a job has begun.",
            hint="Set CELERY_BROKER_CHANNEL_ERROR_RETRY = True.",
            id="livejobs.W005",
        )


@register
def redis_waits_long_enough(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell of a visibility timeout that sends waiting jobs round in circles."""
    timeout = (current_app.conf.broker_transport_options or {}).get("visibility_timeout")
    if _scheme() in ("redis", "rediss", "sentinel") and timeout is not None and float(timeout) < SHORT_VISIBILITY:
        yield CheckWarning(
            f"Redis delivers a task again after {timeout} s, its visibility timeout, though a worker has it. Jobs drop "
            "such a delivery; the project's other tasks run twice.",
            hint="Set visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS to more than the longest task takes.",
            id="livejobs.W006",
        )


@register
def jobs_can_be_stopped(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell of a pool in which no signal stops a job."""
    pool = current_app.conf.worker_pool
    if pool != "prefork":
        yield CheckWarning(
            f"In the pool {pool!r} no signal stops a job: one that is cancelled goes on until it reports.",
            hint="Set CELERY_WORKER_POOL to prefork, or let each task report often: `for item in self.track(items)`.",
            id="livejobs.W008",
        )


@register(Tags.security, deploy=True)
def deployments_have_names(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell of the default name on services that another deployment may use too."""
    shared = _scheme() not in ("memory", "filesystem")
    if shared and DEFAULTS["DEPLOYMENT"] == conf.DEPLOYMENT:
        yield CheckWarning(
            f'LIVEJOBS["DEPLOYMENT"] is {conf.DEPLOYMENT!r}, its default: a second deployment of this name on one '
            "broker or Redis takes this one's replies, and its pages lose the ends of their jobs.",
            hint='Give each deployment a name of its own: LIVEJOBS = {"DEPLOYMENT": "shop-staging"}.',
            id="livejobs.W007",
        )


def _scheme() -> str:
    url = current_app.conf.broker_write_url or current_app.conf.broker_url or "amqp://"
    return str(url[0] if isinstance(url, list) else url).partition(":")[0]
