"""DATABASE_URL, in the settings of the site."""

import ast
import subprocess
import sys

import pytest
from django.db import connections

from CeleryProgressbar.celery import keep_connections
from testkit.processes import ROOT

PRINT = "from django.conf import settings; print(settings.DATABASES['default']['OPTIONS'])"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (
            "postgres://ada@db/site?sslmode=require",
            {"sslmode": "require", "pool": {"min_size": 1, "max_size": 20, "timeout": 10}},
        ),
        ("postgres://ada@db/site?connect_timeout=3", {"connect_timeout": 3}),
        ("sqlite:///site.sqlite3?timeout=5", {"timeout": 5, "transaction_mode": "IMMEDIATE"}),
    ],
)
def test_its_options_are_merged_and_never_overwritten(tmp_path, url, options):
    environment = {
        "DATABASE_URL": url,
        "DATA_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "CeleryProgressbar.settings",
    }
    command = [sys.executable, "-c", PRINT]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    told = ast.literal_eval(ran.stdout)
    assert options.items() <= told.items()


def test_a_worker_keeps_a_connection_where_a_web_process_has_a_pool(monkeypatch):
    pooled = {"OPTIONS": {"pool": {"min_size": 1}, "sslmode": "require"}, "CONN_MAX_AGE": 0}
    monkeypatch.setattr(connections, "settings", {"default": pooled})
    keep_connections()
    assert pooled == {"OPTIONS": {"sslmode": "require"}, "CONN_MAX_AGE": None}
