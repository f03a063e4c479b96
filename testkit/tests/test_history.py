"""The checker of histories can fail: each rule, broken by hand, is found; and a true history passes."""

import asyncio
import json

import pytest
from websockets.asyncio.server import serve

from testkit.history import Heard, Told, check
from testkit.watcher import Watcher


def frame(state="PROGRESS", percent=None, seq=1, attempt=1, task_id="job-1", ref="ref-1", **fields):
    current, total = (None, None) if percent is None else (percent * 10, 1_000)
    return {
        "type": "job",
        "task_id": task_id,
        "ref": ref,
        "state": state,
        "current": current,
        "total": total,
        "percent": percent,
        "seq": seq,
        "attempt": attempt,
        "result": None,
        "error": None,
        **fields,
    }


PENDING = frame("PENDING", seq=0, attempt=0)
HALF = frame("PROGRESS", 50, seq=500)
SUCCESS = frame("SUCCESS", 100, seq=999, result=25)
FAILURE = frame("FAILURE", 50, seq=999, error="Something went wrong.")
ALL_ITS_WAY = [PENDING, frame("STARTED", seq=1), HALF, SUCCESS]


def heard(*connections, watcher="page", owner="ann", asked=("ref-1",), **fields) -> Heard:
    """Return what a watcher has heard: the frames of each connection."""
    told = [Told(0.0, n, one) for n, frames in enumerate(connections, 1) for one in frames]
    return Heard(watcher, owner, asked=dict.fromkeys(asked, 25), told=told, **fields)


def row(of=SUCCESS, owner="visitor-1", **fields):
    same = ("ref", "state", "current", "total", "seq", "attempt", "result", "error")
    return {"id": of["task_id"], "owner": owner, **{name: of[name] for name in same}, **fields}


def violations(*history, rows=None) -> str:
    return "\n".join(check(list(history), [row()] if rows is None else rows))


def test_a_true_history_has_no_violations():
    assert violations(heard(ALL_ITS_WAY), heard([SUCCESS], watcher="second page", asked=())) == ""


def test_a_failure_is_an_end_too():
    assert violations(heard([PENDING, HALF, FAILURE]), rows=[row(FAILURE, error="Something went wrong.")]) == ""


def test_a_second_attempt_may_begin_again():
    again = [frame("STARTED", seq=1_001, attempt=2), {**SUCCESS, "seq": 1_999, "attempt": 2}]
    assert violations(heard([HALF, *again]), rows=[row(again[-1])]) == ""


def test_the_newest_may_be_told_twice_and_older_news_dropped_by_the_page_after_coming_back():
    assert violations(heard([HALF, HALF], [frame("PROGRESS", 49, seq=490), SUCCESS])) == ""


@pytest.mark.parametrize("last", [PENDING, HALF])
def test_a_watcher_that_is_never_told_the_end_is_found(last):
    assert "Lost end: page was last told" in violations(heard([last]))


def test_a_watcher_that_is_told_nothing_is_found():
    assert "Lost end: second was last told nothing" in violations(heard(ALL_ITS_WAY), heard([], watcher="second"))


def test_a_row_without_an_end_is_found():
    assert "Lost end: the row of job job-1 still says PROGRESS" in violations(heard([HALF]), rows=[row(HALF)])


def test_a_start_that_was_never_answered_is_found():
    assert "Lost start" in violations(heard([]), rows=[])


def test_an_answer_without_a_row_is_found():
    assert "Lost start" in violations(heard(ALL_ITS_WAY), rows=[])


def test_a_refused_start_needs_no_end():
    assert violations(heard([], refused={"ref-1": "too_many_jobs"}), rows=[]) == ""


def test_a_refused_start_that_has_left_a_job_is_found():
    refused = heard(ALL_ITS_WAY, refused={"ref-1": "too_many_jobs"})
    assert "A refused start (too_many_jobs)" in violations(refused)


@pytest.mark.parametrize("change", [{"state": "REVOKED"}, {"result": 26}, {"error": "late"}, {"seq": 1_000}])
def test_a_second_end_is_found(change):
    second = {**SUCCESS, **change}
    assert "A second end of job job-1" in violations(heard([SUCCESS, second]))
    assert "A second end of job job-1" in violations(heard([SUCCESS], [second]))
    assert "A second end of job job-1" in violations(heard([SUCCESS]), heard([second], watcher="other page"))


def test_a_change_after_the_end_is_found():
    assert "after its end" in violations(heard([SUCCESS, HALF]))
    assert "after its end" in violations(heard([SUCCESS], [HALF]))


def test_a_lower_seq_on_one_connection_is_found():
    assert "seq 500, then 490" in violations(heard([HALF, frame("PROGRESS", 60, seq=490), SUCCESS]))


@pytest.mark.parametrize("percent", [49, None])
def test_a_lower_percentage_within_one_attempt_is_found(percent):
    lower = frame("PROGRESS", percent, seq=510)
    assert f"50 %, then {percent}" in violations(heard([HALF, lower, SUCCESS]))
    assert f"50 %, then {percent}" in violations(heard([HALF], [lower, SUCCESS]))


def test_what_a_killed_relay_had_not_saved_may_be_missing_on_the_next_connection_and_stays_on_the_page():
    lower = frame("RETRY", 10, seq=510)
    page = heard([HALF], [lower, SUCCESS])
    assert check([page], [row()], relays_live=False) == []
    assert [one["percent"] for one in page.shown("job-1")] == [50, 50, 100]
    assert check([heard([HALF, lower, SUCCESS])], [row()], relays_live=False) != []


def test_a_failure_that_forgets_its_percentage_is_found():
    forgotten = {**FAILURE, "percent": None, "current": None, "total": None}
    assert "50 %, then None (FAILURE)" in violations(heard([HALF, forgotten]), rows=[row(forgotten)])


def test_a_falling_attempt_is_found():
    second = frame("STARTED", seq=600, attempt=2)
    assert "A falling attempt" in violations(heard([second, frame("PROGRESS", 60, seq=700, attempt=1), SUCCESS]))
    assert "A falling attempt" in violations(heard([second], [frame("PROGRESS", 60, seq=700, attempt=1), SUCCESS]))


def test_somebody_elses_news_is_found():
    spy = heard([HALF], watcher="spy", owner="bob", asked=())
    assert "Somebody else's news: spy" in violations(heard(ALL_ITS_WAY), spy)


def test_news_of_another_job_than_the_watched_is_found():
    other = {**SUCCESS, "task_id": "job-2", "ref": "ref-2"}
    one_job = heard([SUCCESS, other], room="job-1", asked=("ref-1", "ref-2"))
    assert "Somebody else's news: page was told of job job-2" in violations(one_job, rows=[row(), row(other)])


def test_a_watched_job_that_is_said_not_to_exist_is_found():
    assert "does not exist" in violations(heard(ALL_ITS_WAY), heard([SUCCESS], room="job-1", asked=(), closed=[4404]))


def test_a_job_that_nobody_asked_for_is_found():
    assert "asked for by nobody" in violations(heard(ALL_ITS_WAY), rows=[row(), row(id="job-2", ref="ref-2")])


def test_a_row_of_another_owner_is_found():
    bobs = heard([{**SUCCESS, "task_id": "job-2", "ref": "ref-2"}], watcher="bobs", owner="bob", asked=["ref-2"])
    rows = [row(), row(id="job-2", ref="ref-2")]
    assert "Somebody else's jobs" in violations(heard(ALL_ITS_WAY), bobs, rows=rows)


def test_two_jobs_for_one_ref_are_found():
    assert "Two jobs for one ref" in violations(heard(ALL_ITS_WAY), rows=[row(), row(id="job-2")])
    assert "Two jobs for one ref" in violations(heard([*ALL_ITS_WAY, {**HALF, "task_id": "job-2"}]))


@pytest.mark.parametrize("change", [{"state": "FAILURE"}, {"result": 24}, {"attempt": 2}, {"current": 900}])
def test_a_row_that_says_something_else_than_the_last_frame_is_found(change):
    assert "The row of job job-1 and page disagree" in violations(heard(ALL_ITS_WAY), rows=[row(**change)])


def test_news_of_a_job_without_a_row_is_found():
    assert "has no row" in violations(heard(ALL_ITS_WAY), rows=[])


def test_a_wrong_answer_is_found():
    wrong = {**SUCCESS, "result": 24}
    assert "has the answer 24 instead of 25" in violations(heard([wrong]), rows=[row(wrong)])


def test_an_end_as_cancelled_is_true_only_if_somebody_has_cancelled():
    revoked = frame("REVOKED", 50, seq=999)
    assert "nobody has cancelled it" in violations(heard([HALF, revoked]), rows=[row(revoked)])
    assert violations(heard([HALF, revoked], cancelled={"job-1"}), rows=[row(revoked)]) == ""


def test_a_success_below_100_percent_is_found():
    short = {**SUCCESS, "percent": 99}
    assert "success at 99 %" in violations(heard([short]))


def test_a_job_that_is_begun_again_though_its_worker_lived_is_found():
    again = {**SUCCESS, "attempt": 2}
    assert check([heard([again])], [row(again)], nothing_lost=True) == []
    assert "was begun 2 times" in check([heard([again])], [row(again)], one_attempt=True)[0]


@pytest.mark.parametrize("said", [{"error": "The worker was lost."}, {"attempt_reason": "The worker was lost."}])
def test_a_worker_that_is_said_to_be_lost_though_it_lived_is_found(said):
    lost = frame("RETRY", 50, seq=600, **said)
    assert check([heard([HALF, lost, SUCCESS])], [row()]) == []
    assert "'The worker was lost.'" in check([heard([HALF, lost, SUCCESS])], [row()], nothing_lost=True)[0]


def test_a_loss_that_a_row_counts_though_the_worker_lived_is_found():
    assert "has 1 losses" in check([heard([SUCCESS])], [row(losses=1)], nothing_lost=True)[0]
    assert check([heard(ALL_ITS_WAY)], [row(losses=0)], nothing_lost=True, one_attempt=True) == []


def test_an_attempt_that_is_executed_twice_is_found():
    assert check([heard(ALL_ITS_WAY)], [row()], attempts={"job-1": [1]}) == []
    assert (
        "Attempt 1 of job job-1 was executed 2 times"
        in check([heard([SUCCESS])], [row()], attempts={"job-1": [1, 1]})[0]
    )


def test_an_attempt_that_the_row_does_not_know_is_found():
    assert "its row knows 1" in check([heard(ALL_ITS_WAY)], [row()], attempts={"job-1": [1, 2]})[0]


async def test_a_watcher_says_an_unanswered_start_again_with_the_same_ref():
    said = []

    async def site(socket):
        said.append(json.loads(await socket.recv()))
        if said[-1]["ref"] in [one["ref"] for one in said[:-1]]:
            await socket.send(json.dumps({**SUCCESS, "ref": said[-1]["ref"]}))
            await socket.wait_closed()  # the first time, the line is cut without an answer

    async with serve(site, "127.0.0.1", 0) as server, asyncio.timeout(30):
        host = "{}:{}".format(*server.sockets[0].getsockname())
        watcher = Watcher("page", "ann", [host], cookie="")
        watching = asyncio.create_task(watcher.watch())
        ref = await watcher.start("count_primes", {"below": 100}, 25)
        await watcher.until(lambda: watcher.told)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert [one["ref"] for one in said] == [ref, ref]
    assert watcher.connections == 2
    assert watcher.unanswered == {}
    assert check([watcher], [row({**SUCCESS, "ref": ref})]) == []
