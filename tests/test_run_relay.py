"""`manage.py run_relay`: jobs of a site that no ASGI server serves end, and their pages ask over HTTP."""

import json
import signal
import sqlite3
from contextlib import closing

from testkit.processes import Site, wait_until


def row(site) -> dict:
    """Return the only job's row."""
    with closing(sqlite3.connect(site.folder / "var" / "db.sqlite3", timeout=20)) as connection:
        connection.row_factory = sqlite3.Row
        return dict(connection.execute('SELECT * FROM "livejobs_job"').fetchone())


def holder(site) -> str | None:
    """Return the relay that holds the lease on the reply queue."""
    with closing(sqlite3.connect(site.folder / "var" / "db.sqlite3", timeout=20)) as connection:
        [held] = connection.execute('SELECT holder FROM "livejobs_relaylease"').fetchone()
        return held


def test_a_job_ends_without_any_web_process_and_the_relay_ends_in_order(tmp_path):
    site = Site(tmp_path)
    try:
        relay = site.start("relay", "manage.py", "run_relay")
        site.worker(1)
        start = "from livejobs import jobs; jobs.start('visitor-1', 'count_primes', {'below': 1000})"
        site.manage("shell", "-v", "0", "-c", start)
        wait_until(lambda: row(site)["finished_at"], f"the job has ended; see {tmp_path}")
        assert (row(site)["state"], json.loads(row(site)["result"])) == ("SUCCESS", 168)
        assert holder(site)
        site.stop(relay, signal.SIGTERM)
        assert relay.returncode == 0
        assert holder(site) is None, "the next relay need not wait for this one's lease"
    finally:
        site.kill_all()
