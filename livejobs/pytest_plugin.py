"""The pytest plugin: the fixture `run_job`. It needs pytest-django, whose fixture `db` it uses."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def run_job(db: None) -> Callable[..., Any]:
    """Run a job to its end, without a broker and a worker; see `livejobs.testing.run_job`."""
    from livejobs import testing

    return testing.run_job
