"""CI on GitHub, as far as it can be checked without GitHub."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
JOBS = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
CLASSIFIERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]


def classified(kind: str) -> list[str]:
    """Return the versions of Python or Django that the distribution says it runs on."""
    found = [re.fullmatch(rf"{kind} :: (\d+\.\d+)", classifier) for classifier in CLASSIFIERS]
    return [match.group(1) for match in found if match]


def test_the_quick_tests_run_on_every_version_that_the_distribution_names():
    matrix = JOBS["check"]["strategy"]["matrix"]
    assert matrix["python"] == classified("Programming Language :: Python")
    assert matrix["django"] == classified("Framework :: Django")
    assert {one["python"] for one in matrix["exclude"]} == {"3.11"}  # Django 6.0 and newer need Python 3.12


def test_all_tests_run_on_the_oldest_and_the_newest_versions():
    python, django = classified("Programming Language :: Python"), classified("Framework :: Django")
    run = [(one["python"], one["django"]) for one in JOBS["test"]["strategy"]["matrix"]["include"]]
    assert run == [(python[0], django[0]), (python[-1], django[-1])]


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_job_calls_make_targets_and_programs_that_are_there(job):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for step in JOBS[job]["steps"]:
        if "run" in step:
            program, argument, *_ = [*step["run"].split(), ""]
            if program == "make":
                assert argument in targets
            else:
                assert program == ".venv/bin/pre-commit" or (ROOT / program).exists()


def test_each_tool_of_the_hooks_has_one_version_only():
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    [biome] = hooks.pop("biome")["additional_dependencies"]
    assert f"/{biome.rpartition('@')[2]}/" in json.loads((ROOT / "biome.json").read_text())["$schema"]
    locked = (ROOT / "requirements-dev.txt").read_text()
    for hook in hooks.values():
        tool = re.match(r"\.venv/bin/(\w+)", hook["entry"]).group(1)
        assert f"\n{tool}==" in locked
