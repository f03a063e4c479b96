"""What sessions and tokens say of their owner, and whether it is so: for many sockets at once, and written nowhere.

The rules are those of `django.contrib.auth.get_user`, and for tokens those of the module in `LIVEJOBS["TOKENS"]`.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError
from django.utils.crypto import constant_time_compare

from livejobs.conf import conf
from livejobs.owner import VISITOR, user_owner
from livejobs.sessions import Stored, read_sessions

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Found = TypeVar("Found")


class Claim(NamedTuple):
    """What a session or a token says; the user's row says whether it is so."""

    visitor: str | None = None  #: the anonymous owner
    user_id: Any = None  #: as the user model has it; None for no user
    backend: str = ""  #: the authentication backend of a session, by its dotted path
    proof: str = ""  #: the session's hash, or the token's, of the user's password
    until: float | None = None  #: when a token expires; None for a session


@dataclass(slots=True, unsafe_hash=True)
class Authority:
    """What a socket brings to say whose it is: the key of a session, or a JWT."""

    session: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    #: What was read last, with `Stored.mark`: the same data is not decoded again.
    read: tuple[int | None, Claim] | None = field(default=None, compare=False, repr=False)
    #: The hash of the user's password field and the claim's proof when they agreed last: an HMAC takes longer.
    agreed: int | None = field(default=None, compare=False, repr=False)


def owners_of(authorities: Collection[Authority]) -> dict[Authority, str | Exception | None]:
    """Return whose each of many authorities is now.

    It takes one query for the sessions and one for the users; a backend with a `get_user` of its own takes one for each
    of its users.

    Args:
        authorities: at most as many as the database takes in one statement.

    Returns:
        The owner of each authority. None if the authority is unknown or has expired, if its user is deleted, not active
        or has another password, or if its session has no owner. The exception if one look-up failed.

    Raises:
        Exception: the store of the sessions or the users cannot be reached.
    """
    stored = read_sessions({authority.session for authority in authorities if authority.session})
    claims = _each(lambda authority: _claim(authority, stored), authorities)
    users = _Users([claim for claim in claims.values() if isinstance(claim, Claim)])
    readable = {authority: claim for authority, claim in claims.items() if not isinstance(claim, Exception)}
    failed = {authority: claim for authority, claim in claims.items() if isinstance(claim, Exception)}
    return {**failed, **_each(lambda authority: _owner(authority, readable[authority], users), readable)}


def owner_now(authority: Authority) -> str | None:
    """Return the owner of one authority, looked up now.

    Args:
        authority: a session or a token.

    Raises:
        Exception: it cannot be looked up.
    """
    owner = owners_of([authority])[authority]
    if isinstance(owner, Exception):
        raise owner
    return owner


def _each(function: Callable[[Item], Found], items: Iterable[Item]) -> dict[Item, Found | Exception]:
    """Call a function for each item; what it raises for one item is that item's result, and is logged once for all."""
    found: dict[Item, Found | Exception] = {}
    for item in items:
        try:
            found[item] = function(item)
        except (OperationalError, InterfaceError):  # of the connection, so of all items
            raise
        except Exception as problem:
            found[item] = problem
    problems = [result for result in found.values() if isinstance(result, Exception)]
    if problems:
        logger.error(
            "The owners of %d sessions or tokens cannot be read; the first:", len(problems), exc_info=problems[0]
        )
    return found


def _claim(authority: Authority, stored: Mapping[str, Stored]) -> Claim | None:
    """Return what an authority says; None for nothing."""
    if authority.token:
        if authority.read is None and (claim := _claim_of_token(authority.token)):
            authority.read = None, claim
        return authority.read[1] if authority.read else None
    session = stored.get(authority.session)
    if session is None:
        return None
    if authority.read is None or session.mark is None or authority.read[0] != session.mark:
        authority.read = session.mark, _claim_of_session(session.load())
    return authority.read[1]


def _claim_of_session(data: Mapping[str, Any]) -> Claim:
    visitor: Any = data.get(VISITOR)
    backend: Any = data.get(BACKEND_SESSION_KEY)
    user_id = _python(get_user_model()._meta.pk, data.get(SESSION_KEY))
    if user_id is None or backend not in settings.AUTHENTICATION_BACKENDS:
        return Claim(visitor)
    return Claim(visitor, user_id, backend, str(data.get(HASH_SESSION_KEY) or ""))


def _claim_of_token(token: str) -> Claim | None:
    """Return what a token says; None if it is none of this site's, or has expired, or no tokens are let in."""
    said = _tokens().read(token) if conf.TOKENS else None
    if said is None:
        return None
    user_id, proof, until = said
    return Claim(user_id=user_id, proof=proof, until=until)


def _tokens() -> Any:
    return import_module(conf.TOKENS)


def _python(field: Any, value: Any) -> Any:
    """Return an id as the user model has it; None if it cannot be one."""
    try:
        return field.to_python(value)
    except ValidationError:
        return None


class _Users:
    """The users of many claims.

    Args:
        claims: of sessions and tokens.
    """

    def __init__(self, claims: Iterable[Claim]) -> None:
        self.backends: dict[str, Any] = {}
        of_sessions, of_tokens = set(), set()
        for claim in claims:
            if claim.until is not None:
                of_tokens.add(claim.user_id)
            elif claim.backend and self._is_models(claim.backend):
                of_sessions.add(claim.user_id)
        model = get_user_model()
        self.by_pk = model._default_manager.in_bulk(of_sessions) if of_sessions else {}
        self.by_id = _tokens().users(of_tokens - {None}) if of_tokens else {}

    def _is_models(self, path: str) -> bool:
        """Tell whether a backend finds users as Django's own does, so that many are found in one query."""
        if path not in self.backends:
            self.backends[path] = load_backend(path)
        return getattr(type(self.backends[path]), "get_user", None) is ModelBackend.get_user

    def of_session(self, claim: Claim) -> Any:
        """Return the user that a session's backend lets in; None for no user."""
        backend = self.backends[claim.backend]
        if not self._is_models(claim.backend):
            return backend.get_user(claim.user_id)
        user = self.by_pk.get(claim.user_id)
        return user if user and backend.user_can_authenticate(user) else None

    def of_token(self, claim: Claim) -> Any:
        """Return the user whose token it is; None for no user."""
        user = self.by_id.get(claim.user_id)
        return user if user and _tokens().lets_in(user, claim.proof) else None


def _owner(authority: Authority, claim: Claim | None, users: _Users) -> str | None:
    """Return whose a claim is."""
    if claim is None:
        return None
    if claim.until is not None:
        user = users.of_token(claim) if claim.until > time.time() else None
        return user_owner(user) if user else None
    user = users.of_session(claim) if claim.backend else None
    if user is None:
        return claim.visitor
    return user_owner(user) if _agree(authority, claim, user) else None


def _agree(authority: Authority, claim: Claim, user: Any) -> bool:
    """Tell whether a session was made with the password that the user has now."""
    make_hash = getattr(type(user), "get_session_auth_hash", None)
    if make_hash is None:
        return True
    # A model's own hash may depend on more than the password.
    both = hash((user.password, claim.proof)) if make_hash is AbstractBaseUser.get_session_auth_hash else None
    if both is not None and both == authority.agreed:
        return True
    hashes = chain((user.get_session_auth_hash(),), user.get_session_auth_fallback_hash())
    agree = bool(claim.proof) and any(constant_time_compare(claim.proof, each) for each in hashes)
    authority.agreed = both if agree else None
    return agree
