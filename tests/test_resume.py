"""A job goes on where its last attempt was: after SIGKILL, and after orderly shutdowns, of which none repeats an item.

FULL_LENGTH=1 plays the design's own numbers: 10 000 items, and 20 deaths.
"""

import asyncio
import os
import random
from collections import Counter

import pytest

from testkit.pages import press_start, running, the_end
from testkit.stage import FOLDER, RABBITMQ, WORKER
from tests.test_lost_workers import WAYS

FULL_LENGTH = os.environ.get("FULL_LENGTH") == "1"
COUNT, SECONDS, DEATHS = (10_000, 240, 20) if FULL_LENGTH else (300, 12, 3)
#: A checkpoint is written after at most so many seconds: once a second, when a report is sent.
WORTH = 2.0


@pytest.mark.parametrize("stage", [RABBITMQ, FOLDER] if FULL_LENGTH else [RABBITMQ], indirect=True)
async def test_no_item_is_missing_and_few_are_repeated_though_the_worker_is_killed(whole, open_page):
    open_page.expect_losses()
    page, draw = open_page(), random.Random(11)
    job = await press_start(page, "effects", COUNT, count=COUNT, seconds=SECONDS)
    for death in range(DEATHS):
        await running(page, job, death + 1)
        before = len(set(whole.effects(job)))
        await asyncio.sleep(draw.uniform(1.5, 2.5))
        whole.kill(WORKER)
        assert len(set(whole.effects(job))) > before, "each attempt goes on"
        whole.start(WORKER)
    end = await the_end(page, job, 60 + 2 * SECONDS)
    assert (end["state"], end["result"]) == ("SUCCESS", COUNT), "it has advanced, so no number of losses ends it"
    assert end["resumed_from"] > 0
    effects = Counter(whole.effects(job))
    assert set(effects) == set(range(COUNT))
    assert effects.total() - COUNT <= DEATHS * WORTH * COUNT / SECONDS


@pytest.mark.parametrize("stage", [RABBITMQ], indirect=True)
async def test_an_orderly_shutdown_repeats_no_item(whole, open_page):
    open_page.expect_attempts()
    page = open_page()
    whole.stop_and_wait(WORKER)
    ways = WAYS if FULL_LENGTH else WAYS[:2]
    for attempt, (way, environment) in enumerate(ways, start=1):
        whole.start(WORKER, **environment)
        await asyncio.to_thread(whole.ready, WORKER)
        if attempt == 1:
            job = await press_start(page, "effects", 200, count=200, seconds=10)
        await running(page, job, attempt, percent=attempt * 10)
        await asyncio.to_thread(way, whole)
        assert not page.ended(job)
    whole.start(WORKER)
    end = await the_end(page, job)
    assert (end["state"], end["attempt"]) == ("SUCCESS", len(ways) + 1)
    assert whole.effects(job) == list(range(200))
