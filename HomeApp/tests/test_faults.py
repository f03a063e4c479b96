"""Random faults over random jobs, from fixed seeds: nothing is lost, doubled, turned back or shown to others."""

import pytest

from HomeApp.tests.faults import BREAKABLE, Plan, Run, primes_below
from HomeApp.tests.stage import LINES

SEEDS = range(1, 26)


def test_the_same_seed_plays_the_same_plan():
    assert Plan.of(7) == Plan.of(7)
    assert Plan.of(7) != Plan.of(8)


def test_the_seeds_break_all_that_there_is_to_be_broken():
    faults = [fault for seed in range(1, 201) for fault in Plan.of(seed).faults]
    assert {(fault.what, fault.how) for fault in faults} == {
        (what, how) for what in BREAKABLE for how in BREAKABLE[what]
    }
    assert {line for fault in faults for line in fault.lines} == set(LINES)


def test_the_answers_are_known_without_the_job():
    assert [primes_below(number) for number in (2, 3, 10, 100, 10_000)] == [0, 1, 4, 25, 1_229]


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_truth_is_told_whatever_breaks(stage, seed, tmp_path):
    run = Run(Plan.of(seed), stage)
    await run.play()
    print(run.report())
    assert run.violations == [], run.save(tmp_path)
