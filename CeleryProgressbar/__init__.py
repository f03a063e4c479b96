"""The wiring: settings, the Celery application, ASGI and URLs. The engine is livejobs, the site is HomeApp."""

from CeleryProgressbar.celery import app as celery_app

__all__ = ["celery_app"]
