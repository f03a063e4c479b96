"""The tokens that sockets may bring: access tokens of djangorestframework-simplejwt.

`LIVEJOBS["TOKENS"] = "livejobs.api.tokens"` lets them in. A module with these three functions reads tokens of another
kind. The rules here are those of `JWTAuthentication.get_user`.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from rest_framework.exceptions import APIException
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.utils import get_md5_hash_password


def read(token: str) -> tuple[Any, str, float] | None:
    """Return what a token says: the id of a user, a proof of the user's password, and when the token expires.

    Args:
        token: as a socket brings it.

    Returns:
        None if it is no token of this site, or has expired. The time is in seconds since 1970.
    """
    try:
        valid = JWTAuthentication().get_validated_token(token.encode())
    except (APIException, TokenError, ValueError):
        return None
    field: Any = get_user_model()._meta.get_field(api_settings.USER_ID_FIELD)
    try:
        user_id = field.to_python(valid.get(api_settings.USER_ID_CLAIM))
    except ValidationError:
        user_id = None
    return user_id, valid.get(api_settings.REVOKE_TOKEN_CLAIM) or "", valid["exp"]


def users(ids: Iterable[Any]) -> dict[Any, Any]:
    """Return users by their ids, in one query.

    Args:
        ids: as `read` returns them.
    """
    wanted = {f"{api_settings.USER_ID_FIELD}__in": set(ids)}
    found = get_user_model()._default_manager.filter(**wanted)
    return {getattr(user, api_settings.USER_ID_FIELD): user for user in found}


def lets_in(user: Any, proof: str) -> bool:
    """Tell whether a user may act with a token.

    Args:
        user: as the database has the user now.
        proof: of the token.
    """
    if api_settings.CHECK_USER_IS_ACTIVE and not user.is_active:
        return False
    return not api_settings.CHECK_REVOKE_TOKEN or proof == get_md5_hash_password(user.password)
