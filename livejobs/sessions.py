"""The project's sessions, of whatever engine: many are read at once, and none is ever written.

Django's own `get_user` rotates a session whose hash was made with one of `SECRET_KEY_FALLBACKS`, and deletes one whose
hash is wrong; an engine's `load` may delete an expired session. Each sets a cookie in the answer to a request. A socket
has no such answer, so a session that a socket rotates or deletes is lost to its visitor.
Source: Django, "How to use sessions", and `django.contrib.auth.get_user`.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.sessions.backends import cache as cache_engine
from django.contrib.sessions.backends import cached_db as cached_db_engine
from django.contrib.sessions.backends import db as db_engine
from django.contrib.sessions.backends.base import SessionBase
from django.core.cache import caches
from django.utils import timezone

#: Keys of sessions that are stored: at most as long as `AbstractBaseSession.session_key`, at least as long as
#: `SessionBase` takes. A key comes from a visitor, and one that a store refuses would fail the others of its batch.
STORED_KEY = re.compile(r"[\w-]{8,40}", re.ASCII)

#: The `load` of each engine whose sessions are read many at once. A subclass that loads in its own way is left to it.
IN_DATABASE = (db_engine.SessionStore.load, cached_db_engine.SessionStore.load)
IN_CACHE = (cache_engine.SessionStore.load,)


class Stored(NamedTuple):
    """A session as its store has it."""

    #: The same for the same data; None if only `load` knows.
    mark: int | None
    load: Callable[[], Mapping[str, Any]]


def session_store() -> type[SessionBase]:
    """Return the class of the project's sessions."""
    store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
    return store


def read_sessions(keys: Collection[str]) -> dict[str, Stored]:
    """Return the sessions with these keys; unknown and expired keys are left out, or their data is empty.

    The engines `db`, `cached_db` (both from the database, which has the truth) and `cache`, and their subclasses, take
    one query or one call to the cache. Any other engine takes its own `load` for each session.

    Args:
        keys: as sockets bring them, so of any content; at most as many as the database takes in one statement.

    Raises:
        Exception: the store cannot be reached.
    """
    store: Any = session_store()
    if store.load not in IN_DATABASE + IN_CACHE:
        reader = _reader(store)
        return {key: Stored(None, lambda key=key: reader(key).load()) for key in keys}  # type: ignore[misc]
    stored_keys = [key for key in keys if STORED_KEY.fullmatch(key)]
    if not stored_keys:
        return {}
    if store.load in IN_CACHE:
        prefix = store.cache_key_prefix
        found = caches[settings.SESSION_CACHE_ALIAS].get_many([prefix + key for key in stored_keys])
        return {key.removeprefix(prefix): Stored(None, partial(dict, data)) for key, data in found.items()}
    unexpired = store.get_model_class().objects.filter(session_key__in=stored_keys, expire_date__gt=timezone.now())
    decode = store().decode
    rows = unexpired.values_list("session_key", "session_data")
    return {key: Stored(hash(data), partial(decode, data)) for key, data in rows}


@cache
def _reader(store: type[SessionBase]) -> type[SessionBase]:
    """Return the same class with all that writes left out. Its name stays, as it is part of the signature's salt."""

    def write_nothing(self: SessionBase, *args: Any, **kwargs: Any) -> None:
        """Leave the session as it is."""

    writers = dict.fromkeys(("create", "save", "delete", "flush", "cycle_key"), write_nothing)
    return type(store.__name__, (store,), {**writers, "__qualname__": store.__qualname__})
