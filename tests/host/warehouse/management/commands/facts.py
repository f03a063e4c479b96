"""`manage.py facts`: what the project's own Celery, settings, URLs and logs do, as JSON."""

import json
import logging

from celery import chain, chord, current_app, group
from celery.app.defaults import DEFAULTS
from django.core.management import BaseCommand
from django.db import connection
from django.urls import get_resolver

from warehouse.tasks import add, export_stock, total

PATIENCE = 90  # seconds


class Command(BaseCommand):
    """Runs plain tasks in every way that Celery has, and prints what came of them."""

    def handle(self, **options):
        """Print the facts."""
        one, failed = add.delay(1, 2), export_stock.delay()
        several = group(add.s(n, n) for n in range(3)).delay()
        facts = {
            "get": one.get(PATIENCE),
            "state": one.state,
            "failure": repr(failed.get(PATIENCE, propagate=False)),
            "group": several.get(PATIENCE),
            "completed": several.completed_count(),
            "chain": chain(add.s(1, 2), add.s(3)).delay().get(PATIENCE),
            "chord": chord((add.s(n, n) for n in range(4)), total.s()).delay().get(PATIENCE),
            "backend": type(current_app.backend).__name__,
            "settings": {name: repr(getattr(current_app.conf, name)) for name in sorted(DEFAULTS)},
            "logging": [repr(logging.root.handlers), logging.root.level],
            "urls": [str(pattern.pattern) for pattern in get_resolver().url_patterns][:4],
            "tables": [name for name in connection.introspection.table_names() if not name.startswith("livejobs_")],
        }
        self.stdout.write(json.dumps(facts))
