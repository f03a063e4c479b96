"""The wiring: settings, the Celery application, ASGI and URLs. All else is in HomeApp."""

from CeleryProgressbar.celery import app as celery_app

__all__ = ["celery_app"]
