"""Who asks: the owner of jobs, always read from the session or a JWT, never from a URL or a frame.

Requests ask Django's own `get_user`, here; sockets ask `owners_of` in claims.py.
"""

import hashlib
import uuid
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

VISITOR = "visitor"
NO_OWNER = "{!r} owns no jobs: give the request, a user who is logged in, or an owner from livejobs.owner."


def session_key(scope: dict[str, Any]) -> str:
    """Return the session key that a socket brings; empty if it brings none.

    Args:
        scope: an ASGI scope that has come through Channels' `CookieMiddleware`.
    """
    key: str = scope["cookies"].get(settings.SESSION_COOKIE_NAME, "")
    return key


def session_digest(key: str) -> str:
    """Return what stands for a session in messages between processes; empty for no session."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest() if key else ""


def bearer_token(scope: dict[str, Any]) -> str | None:
    """Return the JWT that a socket brings as its subprotocols, `bearer` and the token; None if it brings none.

    Args:
        scope: an ASGI scope.
    """
    protocols = scope.get("subprotocols") or []
    return protocols[1] if len(protocols) == 2 and protocols[0] == "bearer" else None


def owner_of(session: SessionBase) -> str | None:
    """Return the owner of a request's session; None if the session has no owner.

    Args:
        session: of a request, as Django may rotate or delete it; sockets use `owners_of`.
    """
    user = get_user(SimpleNamespace(session=session))  # type: ignore[arg-type]
    if user.is_authenticated:
        return user_owner(user)
    return session.get(VISITOR)


def owner_of_request(request: HttpRequest) -> str | None:
    """Return the owner that a request acts for; None if its session has no owner."""
    return user_owner(request.user) if request.user.is_authenticated else request.session.get(VISITOR)


def owner_of_asker(asker: Any) -> str | None:
    """Return the owner that a view, a command or another task asks for; None if a request's session has no owner.

    Args:
        asker: an owner; a user; or a request, Django's or REST framework's.

    Raises:
        TypeError: it is none of these. An anonymous user owns no jobs: a visitor is known by the session.
    """
    if asker is None or isinstance(asker, str):
        return asker
    if _is_request(asker):
        return owner_of_request(asker)
    if getattr(asker, "is_authenticated", False) and asker.pk is not None:
        return user_owner(asker)
    raise TypeError(NO_OWNER.format(asker))


def owner_who_starts(asker: Any) -> str:
    """Return the owner of a job that is started. A session without an owner becomes an anonymous visitor's.

    Args:
        asker: see `owner_of_asker`.

    Raises:
        TypeError: see `owner_of_asker`; None is no owner.
    """
    owner = owner_of_asker(asker)
    if owner is None and not _is_request(asker):
        raise TypeError(NO_OWNER.format(asker))
    return owner or remember_visitor(asker.session)


def stored_visitor(asker: Any) -> tuple[str, str] | None:
    """Return the key of a request's session and its visitor, as they are stored; None for any other asker.

    Args:
        asker: see `owner_of_asker`.
    """
    if not _is_request(asker) or asker.user.is_authenticated or asker.session.modified:
        return None
    visitor = asker.session.get(VISITOR)
    return (asker.session.session_key, visitor) if visitor and asker.session.session_key else None


def page_owner(owner: str | None) -> str:
    """Return the digest of an owner for a page and the address of its sockets; empty if there is no owner.

    It gives no authority. It has a `v` in front if the owner is an anonymous visitor.
    """
    if owner is None:
        return ""
    return f"{'v' if _is_visitor(owner) else 'u'}{hashlib.sha256(owner.encode()).hexdigest()[:16]}"


def page_may_show(page: str, owner: str) -> bool:
    """Tell whether a page that was made for one owner may show the jobs of the owner that its socket has.

    A visitor who has logged in meanwhile keeps the jobs, so that page may become the user's. Any other change leaves
    jobs and a name on the page that are not the new owner's.

    Args:
        page: what `page_owner` returned when the page was made.
        owner: of the session that the socket brings.
    """
    return page == page_owner(owner) or (page.startswith("v") and not _is_visitor(owner))


def user_owner(user: Any) -> str:
    """Return the owner of the jobs that a user starts."""
    return f"user-{user.pk}"


def new_visitor() -> str:
    """Return a new owner that cannot be guessed."""
    return f"{VISITOR}-{uuid.uuid4().hex}"


def remember_visitor(session: SessionBase) -> str:
    """Return the owner of a session; a session without an owner becomes an anonymous visitor's."""
    owner = owner_of(session)
    if owner is None:
        owner = session[VISITOR] = new_visitor()
    return owner


def _is_request(asker: Any) -> bool:
    return hasattr(asker, "session") and hasattr(asker, "user")


def _is_visitor(owner: str) -> bool:
    return owner.startswith(f"{VISITOR}-")
