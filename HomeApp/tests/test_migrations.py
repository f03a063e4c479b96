"""A database of the time before livejobs had tables of its own keeps all that it holds."""

import json
import os
import subprocess
import sys
from functools import partial

import pytest

from testkit.processes import ROOT

pytestmark = pytest.mark.slow

#: What an earlier version has written, with the models of that time. The retry is written before what it repeats.
WRITE = """
import uuid
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

nodes = [("HomeApp", "{version}"), ("admin", "0003_logentry_add_action_flag_choices")]
of = MigrationExecutor(connection).loader.project_state(nodes).apps.get_model
jobs = of("HomeApp", "Job").objects
ended = {{"state": "FAILURE", "finished_at": timezone.now(), "error": "In vain."}}
worker = of("HomeApp", "Worker").objects.create(host="w1", pool="prefork", slots=2)
ids = [uuid.UUID(int=n) for n in (3, 2, 1)]
with transaction.atomic():
    jobs.create(
        pk=ids[2], owner="user-1", kind="search", title="third", retry_of_id=ids[1], lease_id=worker.pk,
        params={{"query": "x"}}
    )
    jobs.create(pk=ids[1], owner="user-1", kind="search", title="second", retry_of_id=ids[0], **ended)
    jobs.create(pk=ids[0], owner="user-1", kind="search", title="first", result={{"n": [1, None]}}, **ended)
of("HomeApp", "SearchResult").objects.create(job_id=ids[2], position=1, title="Found")
if "{version}" != "0002_leases":
    of("HomeApp", "RelayLease").objects.create(queue="replies", holder=uuid.uuid4(), beats=7)
job, _ = of("contenttypes", "ContentType").objects.get_or_create(app_label="HomeApp", model="job")
view, _ = of("auth", "Permission").objects.get_or_create(codename="view_job", content_type=job, name="Can view job")
ada = of("HomeApp", "User").objects.create(username="ada")
ada.user_permissions.add(view)
clerks = of("auth", "Group").objects.create(name="clerks")
clerks.permissions.add(view)
of("HomeApp", "User").objects.create(username="bob").groups.add(clerks)
of("admin", "LogEntry").objects.create(
    user_id=ada.pk, content_type=job, object_id=str(ids[0]), object_repr="first", action_flag=2, change_message=""
)
"""

#: What there is of it afterwards.
READ = """
import json
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from HomeApp.models import SearchResult, User
from livejobs.models import Job, RelayLease, Worker

connection.check_constraints()
tables = connection.introspection.table_names()
print(json.dumps({
    "jobs": [
        [job.pk.int, job.title, job.state, job.error, job.result, job.retry_of_id and job.retry_of_id.int]
        for job in Job.objects.order_by("-pk")
    ],
    "leases": [[job.title, job.lease.host, job.params] for job in Job.objects.exclude(lease=None)],
    "beats": list(RelayLease.objects.values_list("beats", flat=True)),
    "found": [one.job.title for one in SearchResult.objects.all()],
    "may view": [user.has_perm("livejobs.view_job") for user in User.objects.order_by("username")],
    "permissions": Permission.objects.filter(codename="view_job").count(),
    "logged": [entry.content_type.app_label for entry in LogEntry.objects.all()],
    "types": ContentType.objects.filter(app_label="HomeApp", model__in=["job", "worker", "relaylease"]).count(),
    "old tables": sorted({"HomeApp_job", "HomeApp_worker", "HomeApp_relaylease"} & set(tables)),
}))
"""

NOTHING = {"jobs": [], "leases": [], "beats": [], "found": [], "may view": [], "logged": []}
EVERYTHING = {
    "jobs": [
        [3, "first", "FAILURE", "In vain.", {"n": [1, None]}, None],
        [2, "second", "FAILURE", "In vain.", None, 3],
        [1, "third", "PENDING", "", None, 2],
    ],
    "leases": [["third", "w1", {"query": "x"}]],
    "found": ["third"],
    "may view": [True, True],
    "logged": ["livejobs"],
}
AFTERWARDS = {"permissions": 1, "types": 0, "old tables": []}


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def manage(request, tmp_path):
    """Runs management commands over an empty database. Returns what they have printed."""
    url = request.getfixturevalue("postgres_url") if request.param == "PostgreSQL" else f"sqlite:///{tmp_path}/db"
    return partial(run, os.environ | {"DATABASE_URL": url, "DATA_DIR": str(tmp_path)})


def run(environment, *arguments):
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def read(manage):
    return json.loads(manage("shell", "-v", "0", "-c", READ))


def write(manage, version):
    """Make a database of that version, with rows."""
    for app, target in [("HomeApp", [version]), ("contenttypes", []), ("admin", [])]:
        manage("migrate", "-v", "0", app, *target)
    manage("shell", "-v", "0", "-c", WRITE.format(version=version))


@pytest.mark.parametrize(
    ("version", "beats"), [("0002_leases", []), ("0003_relay_lease", [7])], ids=["without_relay_lease", "newest"]
)
def test_no_row_and_no_permission_is_lost(manage, version, beats):
    write(manage, version)
    manage("migrate", "-v", "0")
    assert read(manage) == EVERYTHING | AFTERWARDS | {"beats": beats}


def test_nothing_is_lost_if_livejobs_was_migrated_first(manage):
    write(manage, "0003_relay_lease")
    manage("migrate", "-v", "0", "livejobs")
    manage("migrate", "-v", "0")
    assert read(manage) == EVERYTHING | AFTERWARDS | {"beats": [7]}


def test_an_empty_database_is_migrated(manage):
    manage("migrate", "-v", "0")
    assert read(manage) == NOTHING | AFTERWARDS
