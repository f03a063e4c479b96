"""The Excel export of many rows by a real worker: time, size, and the most memory that the worker ever had.

`python -m benchmarks.export [ROWS]`, 1 000 000 unless told otherwise; over SQLite and PostgreSQL.
Memory is the kernel's own high-water mark of the resident set, `VmHWM`, of each of the worker's processes.
"""

import json
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import psycopg

from testkit.processes import Site
from testkit.services import POSTGRES

USER = """
from django.contrib.auth import get_user_model
user = get_user_model().objects.create_superuser(username="bench", email="bench@example.org", password="bench")
"""

#: Finished jobs of that user, made by the database itself.
FILL = """
from django.contrib.auth import get_user_model
from django.db import connection
numbers = {{
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows})",
    "postgresql": "WITH numbers(n) AS (SELECT generate_series(1, {rows}))",
}}[connection.vendor]
ids = {{
    "sqlite": "lower(hex(randomblob(16)))",
    "postgresql": "gen_random_uuid()",
}}[connection.vendor]
with connection.cursor() as cursor:
    cursor.execute(
        f"INSERT INTO \\"livejobs_job\\" (id, ref, owner, kind, title, params, state, current, total, description, seq,"
        f" attempt, result, error, traceback, file, created_at, started_at, finished_at) {{numbers}}"
        f" SELECT {{ids}}, {{ids}}, 'user-' || %s, 'count_primes', 'Primes below 35000000',"
        f" '{{{{\\"below\\": 35000000}}}}',"
        f" 'SUCCESS', 17499999, 17499999, '', 1999999999, 1, '2146775', '', '', '', CURRENT_TIMESTAMP,"
        f" CURRENT_TIMESTAMP, CURRENT_TIMESTAMP FROM numbers",
        [str(get_user_model().objects.get().pk)],
    )
"""


def ask(url: str, data: dict[str, Any] | None = None, token: str = "") -> dict[str, Any]:
    """Ask the API. Returns its answer."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, json.dumps(data).encode() if data else None, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def most_memory(group: int) -> float:
    """Return the most MiB that any process of a process group has ever had resident."""
    peaks = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                status = (process / "status").read_text()
                peaks.append(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
        except OSError:
            continue  # it has just ended
    return max(peaks)


def export(rows: int, everybody: bool, **environment: str) -> str:
    """Export so many rows. Returns what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), **environment)
        try:
            site.manage("shell", "-v", "0", "-c", USER)
            site.manage("shell", "-v", "0", "-c", FILL.format(rows=rows))
            api, worker = f"http://{site.web()}/api/", site.worker(1)
            before = most_memory(worker.pid)
            name = {"username": "bench", "email": "bench@example.org", "password": "bench"}
            started = time.monotonic()
            tokens = ask(api + "token/", name)
            job = ask(api + "jobs/", {"kind": "export_jobs", "params": {"everybody": everybody}}, tokens["access"])
            while job["finished_at"] is None:
                time.sleep(1)
                tokens = ask(api + "token/refresh/", {"refresh": tokens["refresh"]})
                job = ask(api + f"jobs/{job['task_id']}/", token=tokens["access"])
            seconds = time.monotonic() - started
            size = (Path(folder) / "var" / "files" / job["task_id"]).stat().st_size / 1e6
            memory = f"worker at most {most_memory(worker.pid):.0f} MiB, {before:.0f} MiB before"
            return f"{job['state']}: {job['result']['rows']} rows, {seconds:.0f} s, {size:.0f} MB; {memory}"
        finally:
            site.kill_all()


def main() -> None:
    """Measure, and print."""
    rows = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    for everybody in (False, True):
        print(f"SQLite, everybody={everybody}:", export(rows, everybody), flush=True)
    name = f"bench_{uuid.uuid4().hex}"
    with psycopg.connect(POSTGRES, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            url = POSTGRES.rpartition("/")[0] + f"/{name}"
            print("PostgreSQL:", export(rows, False, DATABASE_URL=url), flush=True)
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


if __name__ == "__main__":
    main()
