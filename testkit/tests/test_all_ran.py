"""A test that was collected and did not run fails the run, with pytest-xdist and without."""

import os
import re
import subprocess
import sys

import pytest

from testkit.processes import ROOT

PLUGIN = "from testkit import all_ran\n\n\ndef pytest_configure(config):\n    all_ran.register(config)\n"
TWICE = "\n\ndef pytest_collection_modifyitems(items):\n    items.append(items[0])\n"
SKIPPED_BY_A_PLUGIN = """

def pytest_runtest_protocol(item):
    return True if item.name == "test_two" else None
"""
TESTS = """
import pytest

def test_one():
    pass

def test_two():
    pass

def test_three():
    pytest.skip("for a reason")
"""
BY_FILE = ("--numprocesses=2", "--dist=loadfile")


@pytest.fixture
def run(tmp_path):
    """Runs pytest over a folder of its own. Returns its exit status and what it has printed."""

    def run(*options: str, conftest: str = "", tests: str = TESTS) -> tuple[int, str]:
        (tmp_path / "conftest.py").write_text(PLUGIN + conftest)
        (tmp_path / "test_some.py").write_text(tests)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-p", "xdist", *options, str(tmp_path)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        return ran.returncode, ran.stdout

    return run


def counts(printed: str) -> dict[str, int]:
    return {what: int(number) for number, what in re.findall(r"(\d+) (\w+)", printed.splitlines()[-1])}


@pytest.mark.parametrize("options", [(), BY_FILE], ids=["one process", "pytest-xdist"])
def test_a_run_of_all_tests_passes(run, options):
    status, printed = run(*options)
    assert status == 0, printed
    assert {"passed": 2, "skipped": 1}.items() <= counts(printed).items()


@pytest.mark.parametrize("options", [(), BY_FILE], ids=["one process", "pytest-xdist"])
def test_a_test_that_was_left_out_fails_the_run(run, options):
    status, printed = run(*options, conftest=SKIPPED_BY_A_PLUGIN)
    assert status == 1, printed
    assert {"failed": 1, "passed": 1, "skipped": 1}.items() <= counts(printed).items()
    assert "FAILED test_some.py::test_two - Tests with this id: 1 were collected, 0 ran." in printed


def test_of_two_tests_with_one_id_pytest_xdist_runs_one_which_fails_the_run(run):
    status, printed = run(*BY_FILE, conftest=TWICE)
    assert status == 1, printed
    assert {"failed": 1, "passed": 2, "skipped": 1}.items() <= counts(printed).items()
    assert "FAILED test_some.py::test_one - Tests with this id: 2 were collected, 1 ran." in printed


def test_two_tests_with_one_id_that_both_run_pass(run):
    status, printed = run(conftest=TWICE)
    assert status == 0, printed
    assert {"passed": 3, "skipped": 1}.items() <= counts(printed).items()


@pytest.mark.parametrize("options", [(), BY_FILE], ids=["one process", "pytest-xdist"])
def test_what_was_not_chosen_is_not_missed(run, options):
    status, printed = run(*options, "-k", "one")
    assert status == 0, printed
    assert counts(printed)["passed"] == 1


def test_collecting_alone_misses_nothing(run):
    assert run("--collect-only")[0] == 0


def test_a_run_that_stops_at_its_first_failure_misses_nothing(run):
    status, printed = run("-x", tests="def test_one():\n    assert False\n\ndef test_two():\n    pass\n")
    assert status == 1
    assert counts(printed) == {"failed": 1} | {key: value for key, value in counts(printed).items() if key == "in"}
