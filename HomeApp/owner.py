"""Who asks: the owner of jobs, always read from the session or a JWT, never from a URL or a frame."""

import hashlib
import time
import uuid
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone
from rest_framework.exceptions import APIException
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import TokenError

VISITOR = "visitor"


class NotSignedIn(Exception):
    """A token that is worth nothing, or not any more."""


class ReadSession(SessionStore):
    """A session whose row has been read already.

    Args:
        key: the session's key.
        data: what its row holds.
    """

    def __init__(self, key: str, data: str) -> None:
        super().__init__(key)
        self.data = data

    def load(self) -> dict[str, Any]:
        """Return what the session holds."""
        return SessionStore().decode(self.data)  # the signature names the class that has written it


def session_key(scope: dict[str, Any]) -> str:
    """Return the session key that a socket brings; empty where it brings none.

    Args:
        scope: an ASGI scope that has come through Channels' `CookieMiddleware`.
    """
    return scope["cookies"].get(settings.SESSION_COOKIE_NAME, "")


def session_digest(key: str) -> str:
    """Return what stands for a session in messages between processes; empty for no session."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest() if key else ""


def bearer_token(scope: dict[str, Any]) -> str | None:
    """Return the JWT that a socket brings as its subprotocols, `bearer` and the token; None where it brings none.

    Args:
        scope: an ASGI scope.
    """
    protocols = scope.get("subprotocols") or []
    return protocols[1] if len(protocols) == 2 and protocols[0] == "bearer" else None


def owner_of_token(token: str) -> tuple[str, float]:
    """Return whose an access token is, and for how many seconds yet.

    Args:
        token: as a client has sent it.

    Raises:
        NotSignedIn: it is no access token, or has expired, or its user is no more, or has a new password.
    """
    authentication = JWTAuthentication()
    try:
        valid = authentication.get_validated_token(token.encode())
        user = authentication.get_user(valid)
    except (APIException, TokenError, ValueError) as flaw:
        raise NotSignedIn(str(flaw)) from None
    return f"user-{user.pk}", max(valid["exp"] - time.time(), 0)


def owners_of(session_keys: Iterable[str]) -> dict[str, str | None]:
    """Return who owns what is started in each of many sessions; the keys of no session are left out.

    One query finds the sessions, and each user that is signed in costs one more, as Django checks it.

    Args:
        session_keys: as sockets bring them, so of any content.
    """
    keys = [key for key in session_keys if key.isascii() and key.isalnum()]
    unexpired = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    rows = unexpired.values_list("session_key", "session_data")
    return {key: owner_of(ReadSession(key, data)) for key, data in rows}


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
