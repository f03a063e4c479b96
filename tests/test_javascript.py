"""The tests in tests/javascript: the page's scripts without a browser, on Node.js 18.19 or newer."""

import shutil
import subprocess

import pytest

from testkit.processes import ROOT
from testkit.services import missing


@pytest.mark.slow
def test_the_scripts_do_what_their_own_tests_say():
    if not shutil.which("node"):
        missing("Node.js", "node is not installed")
    files = sorted(str(path) for path in (ROOT / "tests" / "javascript").glob("*.test.mjs"))
    command = ["node", "--import", "./tests/javascript/modules.mjs", "--test-reporter=tap", "--test", *files]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# pass 0" not in run.stdout
    assert "# fail 0" in run.stdout
