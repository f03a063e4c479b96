"""Random faults over random jobs, from fixed seeds: nothing is lost, doubled, turned back or shown to others.

The seeds of the other brokers are in test_faults_of_other_brokers.py, so that two processes can play them.
"""

import pytest

from testkit.fault_plan import LONG, SHAPES, Plan, answer_of, breakable, primes_below
from testkit.faults import Run
from testkit.stage import BROKERS, FOLDER, LINES, RABBITMQ

SEEDS = range(1, 26)


def seeds_of(*brokers: str) -> list[tuple[str, int]]:
    """Return the seeds whose plans are for these brokers, each after its broker."""
    return sorted((Plan.of(seed).broker, seed) for seed in SEEDS if Plan.of(seed).broker in brokers)


def test_the_same_seed_plays_the_same_plan():
    assert Plan.of(7) == Plan.of(7)
    assert Plan.of(7) != Plan.of(8)


@pytest.mark.parametrize("broker", BROKERS)
def test_the_seeds_break_all_that_there_is_to_be_broken(broker):
    plans = [plan for plan in map(Plan.of, range(1, 3001)) if plan.broker == broker]
    faults = [fault for plan in plans for fault in plan.faults]
    ways = breakable(broker, workers=1 if broker == FOLDER else 2)
    assert {(fault.what, fault.how) for fault in faults} == {(what, how) for what in ways for how in ways[what]}
    lines = {line for fault in faults for line in fault.lines}
    assert lines == {line for line in LINES if f"lines to {line[1]}" in ways}
    assert {plan.shape for plan in plans} == set(SHAPES)
    assert {fault.seconds >= 10 for fault in faults if fault.how == "pause"} == {True, False}


def test_the_seeds_of_every_run_of_the_tests_know_all_brokers_and_shapes():
    plans = [Plan.of(seed) for seed in SEEDS]
    assert {plan.broker for plan in plans} == set(BROKERS)
    assert {plan.shape for plan in plans} == set(SHAPES)
    assert {len(plan.crew) for plan in plans} == {1, 2}
    assert any(fault.times > 1 for plan in plans for fault in plan.faults)
    assert any(plan.shape == LONG and plan.broker == RABBITMQ and plan.workers_live for plan in plans)


def test_the_answers_are_known_without_the_job():
    assert [primes_below(number) for number in (2, 3, 10, 100, 10_000)] == [0, 1, 4, 25, 1_229]
    assert answer_of("count_primes", {"below": 100}) == 25
    assert answer_of("steps", {"count": 7, "seconds": 1}) == 7
    assert answer_of("loops", {"first": 3, "second": 4, "seconds": 1, "nested": True}) == 12
    assert answer_of("loops", {"first": 3, "second": 4, "seconds": 1, "nested": False}) == 7
    assert answer_of("reports", {"count": 9, "rate": 10}) == 9


@pytest.mark.parametrize(("stage", "seed"), seeds_of(RABBITMQ), indirect=["stage"])
async def test_the_truth_is_told_whatever_breaks(stage, seed, tmp_path):
    await play(stage, seed, tmp_path)


async def play(stage, seed, folder):
    """Play a seed's plan, and hold what was told against the rules."""
    run = Run(Plan.of(seed), stage)
    await run.play()
    print(run.report())
    assert run.violations == [], run.save(folder)
