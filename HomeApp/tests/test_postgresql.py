"""The tests of the rows once more, on PostgreSQL: some statements are written by hand, and one differs there."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_rows_are_the_same_on_postgresql(postgres_url):
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [*command, str(Path(__file__).with_name("test_models.py"))],
        env=os.environ | {"DATABASE_URL": postgres_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
