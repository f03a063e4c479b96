"""The addresses of tokens below /api/: a user's name and password for JWTs."""

from typing import Any

from django.contrib.auth import get_user_model
from drf_spectacular.utils import extend_schema
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.serializers import TokenRefreshSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from livejobs.api.problem import problems


class RefreshSerializer(TokenRefreshSerializer):
    """A refresh token for new ones; it is worth nothing where its user is no more."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """Return the new tokens."""
        try:
            return super().validate(attrs)
        except get_user_model().DoesNotExist:
            raise InvalidToken() from None


@extend_schema(responses={200: TokenObtainPairView().get_serializer_class(), **problems(400, 401, 413, 415)})
class TokenView(TokenObtainPairView):
    """A user's name and password for two tokens: `access` for requests, `refresh` for the next two."""


@extend_schema(responses={200: RefreshSerializer, **problems(400, 401, 413, 415)})
class RefreshView(TokenRefreshView):
    """A refresh token for two new tokens. It can be used once."""

    serializer_class = RefreshSerializer
