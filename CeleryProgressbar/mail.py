"""Django's settings for e-mail, which Django 6.1 has renamed."""

from collections.abc import Mapping
from typing import Any

import django

#: Option of a mailer -> the setting of Django up to 6.0, for each backend that has any.
OPTIONS = {
    "django.core.mail.backends.smtp.EmailBackend": {
        "host": "EMAIL_HOST",
        "port": "EMAIL_PORT",
        "username": "EMAIL_HOST_USER",
        "password": "EMAIL_HOST_PASSWORD",
        "use_tls": "EMAIL_USE_TLS",
        "use_ssl": "EMAIL_USE_SSL",
        "timeout": "EMAIL_TIMEOUT",
    },
    "django.core.mail.backends.filebased.EmailBackend": {"file_path": "EMAIL_FILE_PATH"},
}


def mail_settings(
    parsed: Mapping[str, Any], timeout: float, version: tuple[int, ...] = django.VERSION[:2]
) -> dict[str, Any]:
    """Return the settings that make one mail backend Django's default.

    Args:
        parsed: EMAIL_URL, as django-environ parses it into the settings of Django up to 6.0.
        timeout: seconds after which a silent mail server is given up.
        version: Django's, as it takes either `EMAIL_*` or `MAILERS`.

    Returns:
        The settings by name.
    """
    told = {**parsed, "EMAIL_TIMEOUT": timeout}
    if version < (6, 1):
        return told
    backend = told["EMAIL_BACKEND"]
    options = {option: told[name] for option, name in OPTIONS.get(backend, {}).items() if name in told}
    return {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
