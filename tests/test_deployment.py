"""Two deployments on one Redis database share nothing."""

import os
import subprocess
import sys

import pytest

from testkit.processes import ROOT


def run(code, tmp_path, **environment):
    """Run a line in the shell of a deployment. Returns the process."""
    return subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        cwd=ROOT,
        env=os.environ | {"DATA_DIR": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
    )


def test_cache_keys_and_channels_begin_with_the_deployments_name(redis_url, tmp_path):
    shop, other = ({"DEPLOYMENT": name, "REDIS_URL": redis_url} for name in ("shop", "shop-2"))
    assert run("from django.core.cache import cache; cache.set('key', 7)", tmp_path, **shop).returncode == 0
    read = "from django.core.cache import cache; print(cache.get('key'))"
    assert run(read, tmp_path, **shop).stdout == "7\n"
    assert run(read, tmp_path, **other).stdout == "None\n"
    prefix = "from channels.layers import get_channel_layer; print(get_channel_layer().prefix)"
    assert run(prefix, tmp_path, **shop).stdout == "shop:\n"


@pytest.mark.parametrize("name", ["", "two words", "a" * 29])
def test_a_name_that_cannot_begin_a_channels_name_is_refused(tmp_path, name):
    read = "from django.conf import settings; settings.DEPLOYMENT"
    assert "DEPLOYMENT: give 1 to 28 letters" in run(read, tmp_path, DEPLOYMENT=name).stderr


def test_the_longest_name_can_begin_a_channels_name(redis_url, tmp_path):
    opened = "import asyncio; from livejobs.hub import hub; asyncio.run(hub.open()); print(hub.layer.channel)"
    ran = run(opened, tmp_path, DEPLOYMENT="a" * 28, REDIS_URL=redis_url)
    assert ran.stdout.startswith("a" * 28 + ".hubs.")
    assert len(ran.stdout.strip()) < 100
