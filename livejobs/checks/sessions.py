"""Checks that sockets can read the project's sessions."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookieStore
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning

from livejobs.sessions import IN_DATABASE, session_store

ENGINE_REMEDY = 'Set SESSION_ENGINE to "django.contrib.sessions.backends.db", "cached_db" or "cache", or to a subclass.'


@register
def sessions_can_be_read(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell whether sockets can read the project's sessions, and whether they see a log-out."""
    try:
        store: Any = session_store()
        if not issubclass(store, SessionBase) or store.load is SessionBase.load:
            raise TypeError("its SessionStore cannot load a session")
        if store.load in IN_DATABASE:
            store.get_model_class()  # raises if the app of its model is not installed
        elif issubclass(store, CacheStore) and settings.SESSION_CACHE_ALIAS not in settings.CACHES:
            raise LookupError(f"there is no cache {settings.SESSION_CACHE_ALIAS!r}, as SESSION_CACHE_ALIAS says")
    except Exception as problem:
        yield Error(
            f"Sockets cannot read sessions of the engine {settings.SESSION_ENGINE!r}: {problem}.",
            hint=ENGINE_REMEDY,
            id="livejobs.E001",
        )
        return
    if issubclass(store, SignedCookieStore):
        yield CheckWarning(
            "A session in a signed cookie does not end with the log-out: a copy of the cookie opens sockets and sends "
            "requests until SESSION_COOKIE_AGE has passed, or the user has another password or is not active any more.",
            hint=ENGINE_REMEDY,
            id="livejobs.W001",
        )
