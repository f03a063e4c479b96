import pytest

from HomeApp.models import State
from HomeApp.reply import FAILED, PARTIAL, UNSTORABLE, Reply


def body(status="PROGRESS", result=None, traceback=None) -> dict:
    return {"task_id": "1", "status": status, "result": result, "traceback": traceback, "children": []}


def progress(**meta) -> dict:
    return body(result={"seq": 1, "attempt": 1, **meta})


def test_reads_a_percentage():
    reply = Reply.of(progress(current=3, total=4.5, description="three"))
    assert (reply.state, reply.current, reply.total, reply.description) == (State.PROGRESS, 3, 4.5, "three")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "3", None, [3]])
def test_what_is_no_number_is_unknown(number):
    assert Reply.of(progress(current=number, total=number)).current is None


def test_words_are_cut_to_what_a_row_and_a_database_can_hold():
    assert Reply.of(progress(description="a\0b\ud800" + "c" * 300)).description == "ab?" + "c" * 197
    assert Reply.of(progress(partial="a\0b\ud800" + "c" * 9000)).partial == "ab?" + "c" * (PARTIAL - 3)
    assert Reply.of(progress()).partial == ""


@pytest.mark.parametrize("result", [None, 0, 78498, "text", [1, {"a": None}], {"primes": 4}])
def test_a_result_is_any_json(result):
    assert Reply.of(body("SUCCESS", result)).result == result


@pytest.mark.parametrize("result", [float("nan"), "a\0b", {"deep": ["\ud800"]}])
def test_a_result_that_no_database_can_hold_is_a_failure_that_says_so(result):
    reply = Reply.of(body("SUCCESS", result))
    assert (reply.state, reply.error) == (State.FAILURE, UNSTORABLE)


def exception(kind, *message) -> dict:
    return {"exc_type": kind, "exc_message": list(message), "exc_module": "somewhere"}


def test_the_visitor_reads_what_the_task_has_written_for_them():
    assert Reply.of(body("FAILURE", exception("JobError", "The file is empty."))).error == "The file is empty."


def test_the_visitor_reads_nothing_of_any_other_exception():
    reply = Reply.of(body("FAILURE", exception("KeyError", "/etc/secret"), "Traceback: /etc/secret"))
    assert reply.error == FAILED
    assert "secret" in reply.traceback


def test_the_visitor_reads_of_a_lost_worker():
    assert "lost" in Reply.of(body("FAILURE", exception("WorkerLostError", "signal 9"))).error


@pytest.mark.parametrize("odd", [None, "text", ["list"]])
def test_an_odd_exception_is_a_failure_all_the_same(odd):
    assert Reply.of(body("FAILURE", odd)).error == FAILED


@pytest.mark.parametrize(
    "junk", [body("DOWNLOADING"), body("PROGRESS", None), body("PROGRESS", {"current": 1}), {"status": "SUCCESS"}]
)
def test_what_is_no_reply_of_a_job_is_refused(junk):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Reply.of(junk)


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "RETRY"])
def test_an_end_says_how_far_its_attempt_had_come(state):
    reply = Reply.of({**body(state), "attempt": 2, "latest": {"current": 3, "total": 4, "description": "three"}})
    assert (reply.state, reply.attempt, reply.current, reply.total) == (state, 2, 3, 4)


@pytest.mark.parametrize("latest", [None, {}, {"current": None}])
def test_an_end_may_not_know_how_far_its_attempt_had_come(latest):
    reply = Reply.of({**body("FAILURE"), "latest": latest})
    assert (reply.attempt, reply.current, reply.total) == (0, None, None)
