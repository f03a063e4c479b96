"""Calls that wait for the database or the broker: never on the event loop, never in asgiref's one thread.

Source: Channels, "Database Access"; asgiref's `sync_to_async` runs all that is thread-sensitive in one thread.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from django.db import InterfaceError, OperationalError, connections

Key = TypeVar("Key")
Result = TypeVar("Result")

THREADS = ThreadPoolExecutor(8, thread_name_prefix="socket")
#: Keys looked up in one go, at most: SQLite takes no statement of more than 500 parts.
MOST_AT_ONCE = 200


async def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in one of the threads; these last, and so do their database connections.

    A connection that fails, as after a restart of the database, is replaced, and the function called once more: it
    must be one that may run twice.
    """
    return await asyncio.get_running_loop().run_in_executor(THREADS, _call, function, *arguments)


def _call(function: Callable[..., Result], *arguments: Any) -> Result:
    try:
        return function(*arguments)
    except (OperationalError, InterfaceError):
        connections.close_all()
        return function(*arguments)


class LookUp(Generic[Key, Result]):
    """Looks up in one call all keys that were asked for while the last call was under way.

    Two thousand sockets that come back at once cost some twenty queries instead of two thousand, and as many changes
    of thread. A single question is looked up at once.

    Args:
        function: takes different keys, returns what it has found for them; called in a thread. An exception that it
            returns for a key is raised to the callers that asked for that key.
        default: the answer for a key that was not found.
    """

    def __init__(self, function: Callable[[list[Key]], Mapping[Key, Result | Exception]], default: Result) -> None:
        self.function, self.default = function, default
        self.asked: dict[Key, list[asyncio.Future[Result]]] = {}
        self.answering: asyncio.Task[None] | None = None

    async def __call__(self, key: Key) -> Result:
        """Return what there is for a key, looked up after this call."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.asked.setdefault(key, []).append(answer)
        if self.answering is None:
            self.answering = asyncio.create_task(self._answer())
        return await answer

    async def _answer(self) -> None:
        try:
            while self.asked:
                keys = list(self.asked)[:MOST_AT_ONCE]
                await self._settle({key: self.asked.pop(key) for key in keys})
        finally:
            self.answering = None

    async def _settle(self, asked: dict[Key, list[asyncio.Future[Result]]]) -> None:
        try:
            found = await in_thread(self.function, list(asked))
        except Exception as problem:
            for _, answer in _waiting(asked):
                answer.set_exception(problem)
        else:
            for key, answer in _waiting(asked):
                result = found.get(key, self.default)
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)


def _waiting(asked: dict[Key, list[asyncio.Future[Result]]]) -> Iterator[tuple[Key, asyncio.Future[Result]]]:
    for key, answers in asked.items():
        for answer in answers:
            if not answer.done():  # done already: the caller was cancelled
                yield key, answer
