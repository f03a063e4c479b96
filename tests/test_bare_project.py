"""A project that has nothing but Django, Celery and Channels takes the engine in."""

import subprocess
import sys
from importlib.metadata import packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from testkit.processes import ROOT

SETTINGS = """
SECRET_KEY = "of a test"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "livejobs"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
CELERY_BROKER_URL = "memory://"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "urls"
"""
PROJECT = """
import sys
import django
from celery import Celery, shared_task
from django.conf import settings

django.setup()
app = Celery("bare")
app.config_from_object("django.conf:settings", namespace="CELERY")

from django.core.asgi import get_asgi_application
from django.core.management import call_command
import livejobs

@shared_task(base=livejobs.JobTask, bind=True, title="Squares")
def squares(self):
    return sum(n * n for n in self.track(range(10)))

application = livejobs.asgi(get_asgi_application())
call_command("check", fail_level="WARNING")
call_command("makemigrations", "--check", "--dry-run")
call_command("migrate", verbosity=0)

from livejobs.testing import assert_truthful, run_job

job = run_job("squares")
assert_truthful(job.snapshots)
print(job.state, job.result, job.url)
"""


def core() -> set[str]:
    """Return what the wheel asks for, and what that asks for."""
    found, asked = set(), {"django", "celery", "channels"}
    while asked - found:
        name = (asked - found).pop()
        found.add(name)
        needs = [Requirement(line) for line in requires(name) or []]
        asked |= {canonicalize_name(one.name) for one in needs if not one.marker or one.marker.evaluate({"extra": ""})}
    return found


def run(folder, *lines: str) -> subprocess.CompletedProcess:
    absent = [
        module
        for module, distributions in packages_distributions().items()
        if not core() & {canonicalize_name(name) for name in distributions}
    ]
    (folder / "project_settings.py").write_text("\n".join([SETTINGS, *lines]))
    (folder / "urls.py").write_text("urlpatterns = []")
    program = (
        f"import sys\nsys.modules.update(dict.fromkeys({sorted(absent)!r}))  # each import of them fails\n{PROJECT}"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "project_settings", "PYTHONPATH": f"{folder}:{ROOT}"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_job_runs_in_a_project_without_any_extra(tmp_path):
    ran = run(tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "SUCCESS 285 None"


@pytest.mark.parametrize(
    ("value", "id_"),
    [
        ({"RECENTLY": 3}, "livejobs.E002"),
        ({"DEPLOYMENT": "two words"}, "livejobs.E003"),
        ({"TOKENS": "livejobs.api.tokens"}, "livejobs.E004"),
    ],
    ids=["an unknown key", "a name that cannot begin a channel's", "tokens without their package"],
)
def test_a_wrong_setting_is_an_error_with_its_remedy(tmp_path, value, id_):
    ran = run(tmp_path, f"LIVEJOBS = {value!r}")
    assert ran.returncode == 1
    assert id_ in ran.stderr
    assert "HINT" in ran.stderr
