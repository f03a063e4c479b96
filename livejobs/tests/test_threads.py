"""Calls in threads: alike ones together, each after its question, and over a broken connection."""

import asyncio
import threading

import pytest
from django.db import OperationalError

from livejobs.threads import MOST_AT_ONCE, LookUp, in_thread


async def test_one_that_asks_alone_is_answered_at_once():
    look_up = LookUp(lambda keys: {key: key.upper() for key in keys}, None)
    assert await look_up("a") == "A"


async def test_what_is_not_found_has_the_default():
    assert await LookUp(lambda keys: {}, "nobody")("a") == "nobody"


async def test_all_who_ask_meanwhile_are_answered_in_one_go():
    let_go, asked, batches = threading.Event(), asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def find(keys):
        batches.append(keys)
        loop.call_soon_threadsafe(asked.set)
        assert let_go.wait(5)
        return {key: key * 2 for key in keys}

    look_up = LookUp(find, None)
    first = asyncio.create_task(look_up(0))
    await asked.wait()
    others = asyncio.gather(*(look_up(key) for key in [*range(MOST_AT_ONCE + 1), 7]))
    await asyncio.sleep(0)
    let_go.set()
    assert await first == 0
    assert await others == [*range(0, 2 * MOST_AT_ONCE + 2, 2), 14]
    assert [len(keys) for keys in batches] == [1, MOST_AT_ONCE, 1]


async def test_a_question_is_never_answered_with_what_was_found_before_it():
    let_go, asked, found = threading.Event(), asyncio.Event(), iter(["old", "new"])
    loop = asyncio.get_running_loop()

    def find(keys):
        answer = next(found)
        loop.call_soon_threadsafe(asked.set)
        if answer == "old":
            assert let_go.wait(5)
        return dict.fromkeys(keys, answer)

    look_up = LookUp(find, None)
    first = asyncio.create_task(look_up("a"))
    await asked.wait()
    second = asyncio.create_task(look_up("a"))
    await asyncio.sleep(0)
    let_go.set()
    assert (await first, await second) == ("old", "new")


async def test_a_failure_reaches_all_who_asked_and_the_next_are_answered():
    answers = iter([ValueError("no"), {"a": 1}])

    def find(keys):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    look_up = LookUp(find, None)
    with pytest.raises(ValueError, match="no"):
        await look_up("a")
    assert await look_up("a") == 1


async def test_one_who_leaves_does_not_take_the_others_answer_along():
    let_go = threading.Event()

    def find(keys):
        assert let_go.wait(5)
        return dict.fromkeys(keys, 1)

    look_up = LookUp(find, None)
    leaver, other = asyncio.create_task(look_up("a")), asyncio.create_task(look_up("a"))
    await asyncio.sleep(0)
    leaver.cancel()
    let_go.set()
    assert await other == 1


async def test_a_connection_that_the_database_has_cut_is_replaced():
    outages = iter([OperationalError("server closed the connection"), None])

    def ask():
        if problem := next(outages):
            raise problem
        return "answered"

    assert await in_thread(ask) == "answered"


async def test_a_database_that_stays_away_is_an_error():
    def ask():
        raise OperationalError("away")

    with pytest.raises(OperationalError):
        await in_thread(ask)
