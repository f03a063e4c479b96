"""The lock files: what each environment is made of."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
#: Each one holds what the one before it holds.
LOCKS = ["requirements-production.txt", "requirements-openai.txt", "requirements.txt", "requirements-dev.txt"]
LOCKS += ["benchmarks/requirements.txt"]
#: A package, its version, perhaps a marker, and one hash or more.
PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;]+).*?\\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", re.M)


def text(name: str) -> str:
    return (ROOT / name).read_text()


def pins(name: str) -> set[tuple[str, str]]:
    """Return package and version of each line of a lock file."""
    return set(PINNED.findall(text(name)))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_file_is_a_version_with_its_hashes(lock):
    assert pins(lock)
    rest = PINNED.sub("", text(lock))
    assert [line for line in rest.splitlines() if not line.startswith("#")] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_file_names_a_package_index(lock):
    for name in (lock, lock.removesuffix(".txt") + ".in"):
        assert not re.search(r"://|--(extra-)?index|--find-links|--trusted-host", text(name)), name


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_was_written_from_its_in_file(lock):
    source = lock.removesuffix(".txt") + ".in"
    assert f" {source} -o {lock}\n" in text(lock)
    locked = {package for package, _ in pins(lock)}
    asked = re.findall(r"^([A-Za-z][\w.-]*)", text(source), re.M)
    assert {name.lower().replace("_", "-") for name in asked} <= locked


@pytest.mark.parametrize(("smaller", "larger"), list(pairwise(LOCKS)), ids=LOCKS[1:])
def test_each_environment_holds_the_smaller_one_in_the_same_versions(smaller, larger):
    assert pins(smaller) < pins(larger)


def test_production_has_neither_a_development_server_nor_openai():
    production = {package for package, _ in pins("requirements-production.txt")}
    assert not {"daphne", "twisted", "honcho", "openai", "pytest"} & production


def test_the_image_is_production_and_checks_the_hashes():
    dockerfile = text("Dockerfile")
    [default] = re.findall(r"^ARG REQUIREMENTS=(\S+)$", dockerfile, re.M)
    assert default == "requirements-production.txt"
    assert "--require-hashes -r $REQUIREMENTS" in dockerfile


def test_the_site_starts_with_nothing_but_its_production_requirements(tmp_path):
    production = {name for name, _ in pins("requirements-production.txt")}
    absent = [
        module
        for module, distributions in packages_distributions().items()
        if not production & {canonicalize_name(name) for name in distributions}
    ]
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(absent)!r}))  # each import of them fails\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(['manage.py', 'check', '--fail-level', 'WARNING'])\n"
        "import CeleryProgressbar.asgi, HomeApp.tasks\n"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "CeleryProgressbar.settings", "DATA_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
