"""Who asks: the owner of jobs, always read from the session, never from a URL or a frame."""

import uuid
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.base import SessionBase

VISITOR = "visitor"


def session_of(scope: dict[str, Any]) -> SessionBase:
    """Return the session of a socket, to be read only: a socket sets no cookies.

    Args:
        scope: an ASGI scope that has come through Channels' `CookieMiddleware`.
    """
    store = import_module(settings.SESSION_ENGINE).SessionStore
    return store(scope["cookies"].get(settings.SESSION_COOKIE_NAME))


def owner_of(session: SessionBase) -> str | None:
    """Return who owns what is started in a session; None for a session that is nobody's yet.

    Args:
        session: of a request or of a socket's scope.
    """
    user = get_user(SimpleNamespace(session=session))  # type: ignore[arg-type]
    if user.is_authenticated:
        return f"user-{user.pk}"
    return session.get(VISITOR)


def new_visitor() -> str:
    """Return an owner that nobody else is or can guess."""
    return f"{VISITOR}-{uuid.uuid4().hex}"


def remember_visitor(session: SessionBase) -> str:
    """Return who owns what is started in a session, making an anonymous session somebody first."""
    owner = owner_of(session)
    if owner is None:
        owner = session[VISITOR] = new_visitor()
    return owner
