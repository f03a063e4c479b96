"""The distribution `livejobs`: what a wheel of it holds and asks for."""

import tomllib
from email import message_from_bytes
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.build import build_wheel
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built as pip would build it."""
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build_wheel(str(folder))
    with ZipFile(folder / name) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel):
    """Return the metadata of the wheel."""
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name))


def test_the_wheel_holds_every_file_of_the_engine_but_its_tests_and_nothing_else(wheel):
    there = {path.relative_to(ROOT) for path in (ROOT / "livejobs").rglob("*") if path.is_file()}
    engine = {str(path) for path in there if not {"tests", "__pycache__"} & set(path.parts)}
    packed = {name for name in wheel.namelist() if not name.startswith("livejobs-")}
    assert "livejobs/py.typed" in packed
    assert packed == engine


def test_the_core_asks_for_django_celery_and_channels_only(metadata):
    asked = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    assert {one.name for one in asked if not one.marker} == {"django", "celery", "channels"}


def test_the_wheel_has_the_licence_and_each_extra(wheel, metadata):
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("Provides-Extra") == ["api", "jwt", "metrics", "redis"]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())


def test_the_core_and_each_extra_allow_what_the_tests_run_with():
    asked = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    installed = [one for one in map(Requirement, asked) if one.name != "prometheus-client"]  # the site has no metrics
    assert [str(one) for one in installed if version(one.name) not in one.specifier] == []
