"""The site's settings with kinds of jobs that are the tests' own: DJANGO_SETTINGS_MODULE of the fault stage."""

from CeleryProgressbar.settings import *  # noqa: F403
from CeleryProgressbar.settings import BASE_DIR, CELERY_BROKER_TRANSPORT_OPTIONS, CELERY_BROKER_URL, TEMPLATES

CELERY_IMPORTS = ["testkit.fault_tasks"]
TEMPLATES[0]["DIRS"] = [BASE_DIR / "testkit" / "templates"]
if CELERY_BROKER_URL.startswith("redis:"):
    # A worker looks every second instead of every 100 s for jobs that were not acknowledged in time.
    # Source: kombu.transport.redis, "Transport Options".
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
