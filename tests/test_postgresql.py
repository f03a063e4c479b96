"""The tests of the rows once more, on PostgreSQL: some statements are written by hand, and one differs there.

So are those of the parameters that a row can hold: PostgreSQL takes less JSON than SQLite.
"""

import os
import subprocess
import sys

from testkit.processes import ROOT

TESTS = [
    "livejobs/tests/test_models.py",
    "livejobs/tests/test_params.py::test_any_json_is_taken_and_arrives_unchanged_or_is_refused_by_name",
]


def test_the_rows_are_the_same_on_postgresql(postgres_url):
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [*command, *TESTS],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": postgres_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
