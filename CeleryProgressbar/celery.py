"""The Celery application: `celery -A CeleryProgressbar worker`."""

import os

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "CeleryProgressbar.settings")

TRANSPORT_ALIASES["filesystem"] = "CeleryProgressbar.filesystem:Transport"

app = Celery("CeleryProgressbar", amqp="CeleryProgressbar.broker:AMQP")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
