"""Random faults over random jobs, as in test_faults.py, on the brokers Redis and folder."""

import pytest

from testkit.stage import FOLDER, REDIS
from tests.test_faults import play, seeds_of


@pytest.mark.parametrize(("stage", "seed"), seeds_of(FOLDER, REDIS), indirect=["stage"])
async def test_the_truth_is_told_whatever_breaks(stage, seed, tmp_path):
    await play(stage, seed, tmp_path)
