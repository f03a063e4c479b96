"""A project that has Celery already: tests/test_host_project.py installs the engine into it."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
