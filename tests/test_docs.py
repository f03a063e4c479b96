"""The documentation says what is there: its examples are run as they stand, and its links lead somewhere."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from livejobs.conf import DEFAULTS
from testkit.processes import ROOT

PAGES = sorted(str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)")
#: A block of the README that names its file in its first line.
BLOCK = re.compile(r"^```(?:python|django)\n(?:# |\{# )(HomeApp\S+).*\n((?:.*\n)*?)```$", re.MULTILINE)
#: Runs the job of the README, and looks at its form on the home page.
COUNT_WORDS = """
import json
from django.conf import settings
from django.db import connection
from django.test import Client
from livejobs.testing import run_job

settings.ALLOWED_HOSTS = ["testserver"]
job = run_job("count_words", text="one two three")
print(json.dumps([job.state, job.result, job.title, 'data-kind="count_words"' in Client().get("/").content.decode()]))
"""


def test_the_tests_of_the_page_on_testing_pass(run_job, db):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/testing.md").read_text(), re.MULTILINE | re.DOTALL)
    page = {}
    exec("\n".join(blocks), page)
    tests = [value for name, value in page.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        fixtures = test.__code__.co_varnames[: test.__code__.co_argcount]
        test(**{name: {"run_job": run_job, "db": db}[name] for name in fixtures})


@pytest.mark.slow
def test_the_job_of_the_readme_runs_once_its_blocks_are_added(tmp_path):
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert [name for name, _ in blocks] == [
        "HomeApp/forms.py",
        "HomeApp/tasks.py",
        "HomeApp/templates/HomeApp/home.html",
    ]
    for name in ("HomeApp", "CeleryProgressbar", "livejobs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    shutil.copy(ROOT / "manage.py", tmp_path)
    for name, text in blocks:
        path = tmp_path / name
        old = path.read_text()
        path.write_text(old.replace("{% block main %}", "{% block main %}\n" + text) if "{%" in text else old + text)
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment["DATA_DIR"] = str(tmp_path / "var")
    for arguments in (["migrate", "-v", "0"], ["shell", "-v", "0", "-c", COUNT_WORDS]):
        command = [sys.executable, "manage.py", *arguments]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == ["SUCCESS", 3, "Words of a text", True]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for file, anchor in LINK.findall((ROOT / page).read_text()):
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), file
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, anchor


def test_the_page_on_installing_has_every_setting_and_its_default():
    rows = re.findall(r"^\| `([A-Z_]+)` \| `?([^|`]+)`? \|", (ROOT / "docs/installing.md").read_text(), re.MULTILINE)
    assert dict(rows) == {name: "none" if value is None else str(value) for name, value in DEFAULTS.items()}
