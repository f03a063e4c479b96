import uuid

import pytest

from livejobs.models import EXACT, State
from livejobs.outcome import DEEPEST_RESULT, FAILED, LARGEST_RESULT, TOO_LARGE, UNSTORABLE
from livejobs.reply import MOST_ATTEMPT, MOST_SEQ, PARTIAL, TRACEBACK, UNREADABLE, Reply

ID = str(uuid.uuid4())


def body(status="PROGRESS", result=None, **more) -> dict:
    return {"task_id": ID, "status": status, "result": result, "traceback": None, "error": None, **more}


def progress(**meta) -> dict:
    return body(result={"seq": 1, "attempt": 1, **meta})


def test_reads_a_percentage():
    reply = Reply.of(progress(current=3, total=4.5, description="three"))
    assert (reply.state, reply.current, reply.total, reply.description) == (State.PROGRESS, 3, 4.5, "three")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "three", None, [3]])
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


def nested(levels) -> list:
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("result", [nested(DEEPEST_RESULT), {"deep": nested(2 * DEEPEST_RESULT)}])
def test_a_result_that_no_parser_can_read_is_a_failure_that_says_so(result):
    assert Reply.of(body("SUCCESS", result)).error == UNSTORABLE


def test_a_result_is_of_a_size_that_pages_can_be_sent():
    result = "x" * (LARGEST_RESULT - 2)
    assert Reply.of(body("SUCCESS", result)).result == result
    reply = Reply.of(body("SUCCESS", result + "x"))
    assert (reply.state, reply.error, reply.result) == (State.FAILURE, TOO_LARGE, None)


@pytest.mark.parametrize("result", ["\\u0000", {"path": "C:\\u0000"}, "[" * 500, "{" * 500])
def test_a_result_that_only_looks_like_one_that_cannot_be_stored_is_stored(result):
    assert Reply.of(body("SUCCESS", result)).result == result


def test_the_visitor_reads_what_the_worker_has_written_for_them():
    assert Reply.of(body("FAILURE", error="The file is empty.")).error == "The file is empty."
    assert Reply.of(body("RETRY", error="The server is busy.")).error == "The server is busy."
    assert Reply.of(body("FAILURE", error="a\0b\ud800" + "c" * 900)).error == "ab?" + "c" * 497


def test_the_visitor_reads_nothing_of_an_exception_by_the_name_of_its_class():
    problem = {"exc_type": "JobError", "exc_message": ["/etc/secret"], "exc_module": "somewhere"}
    reply = Reply.of(body("FAILURE", problem, traceback="Traceback: /etc/secret"))
    assert reply.error == FAILED
    assert "secret" in reply.traceback


@pytest.mark.parametrize("odd", [None, 0, "", [], ["list"], {"a": 1}])
def test_an_odd_error_is_a_failure_all_the_same(odd):
    assert Reply.of(body("FAILURE", error=odd)).state == State.FAILURE


def test_the_end_of_a_long_traceback_is_kept():
    assert Reply.of(body("FAILURE", traceback="a" * TRACEBACK + "ValueError")).traceback.endswith("aValueError")
    assert len(Reply.of(body("FAILURE", traceback="a" * 2 * TRACEBACK)).traceback) == TRACEBACK


#: What may stand in any place of a body.
ODD = [None, True, -1, 0, 1, 1.5, float("nan"), 2**63, 10**400, "", "text", "\0\ud800", [], [1], {}, {"a": [1]}]


@pytest.mark.parametrize("odd", [*ODD, b"bytes", {1}, object()], ids=lambda odd: type(odd).__name__)
def test_whatever_is_no_reply_of_a_job_is_a_value_error(odd):
    for junk in (odd, {}, {"status": "SUCCESS"}, body(odd), body("DOWNLOADING"), body("PROGRESS", {"current": 1})):
        with pytest.raises(ValueError, match="no reply of a job"):
            Reply.of(junk)
    with pytest.raises(ValueError, match="no reply of a job"):
        Reply.of(body("SUCCESS") | {"task_id": odd})


@pytest.mark.parametrize("name", ["seq", "attempt"])
def test_a_report_whose_numbers_no_row_can_hold_is_refused(name):
    for odd in (None, True, -1, 1.0, "1", [1], 2**63, 10**400, float("nan")):
        with pytest.raises(ValueError, match="no reply of a job"):
            Reply.of(progress(**{name: odd}))
    assert Reply.of(progress(seq=MOST_SEQ, attempt=MOST_ATTEMPT)).seq == MOST_SEQ


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
@pytest.mark.parametrize("name", ["result", "error", "traceback", "attempt", "latest", "children"])
def test_an_end_that_can_be_told_for_a_job_ends_it_whatever_else_it_holds(state, name, odd):
    reply = Reply.of(body(state) | {name: odd})
    assert reply.task_id == ID
    assert reply.state in (State(state), State.FAILURE)
    assert reply.error or reply.state != State.FAILURE


def test_an_end_without_a_result_says_that_it_cannot_be_read():
    reply = Reply.of({"task_id": ID, "status": "SUCCESS"})
    assert (reply.state, reply.error) == (State.FAILURE, UNREADABLE)


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (EXACT, EXACT),
        (-3, -3),
        ("42", 42),
        ("1e3", 1000),
        (EXACT + 1, float(EXACT)),
        (2**64, float(2**64)),
        (1e308, 1e308),
        (10**400, None),
        (-(10**400), None),
        (float("-inf"), None),
        ("ten", None),
        (True, None),
    ],
)
def test_a_number_is_one_that_every_row_can_hold(value, known):
    reply = Reply.of(progress(current=value, total=value))
    assert (reply.current, reply.total) == (known, known)
    assert reply.current is None or type(reply.current) is float or abs(reply.current) <= EXACT


def test_an_id_is_read_in_any_spelling():
    assert Reply.of(body("SUCCESS") | {"task_id": ID.upper()}).task_id == ID


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "RETRY"])
def test_an_end_says_how_far_its_attempt_had_come(state):
    reply = Reply.of({**body(state), "attempt": 2, "latest": {"current": 3, "total": 4, "description": "three"}})
    assert (reply.state, reply.attempt, reply.current, reply.total) == (state, 2, 3, 4)


@pytest.mark.parametrize("latest", [None, {}, {"current": None}])
def test_an_end_may_not_know_how_far_its_attempt_had_come(latest):
    reply = Reply.of({**body("FAILURE"), "latest": latest})
    assert (reply.attempt, reply.current, reply.total) == (0, None, None)
