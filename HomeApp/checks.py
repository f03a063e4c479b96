"""What the site's settings ask of its environment, told by `manage.py check` and before each run."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning


@register
def openai_is_installed(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell if the search is to ask OpenAI, and OpenAI's client is not installed."""
    if settings.OPENAI_API_KEY and not find_spec("openai"):
        yield Error(
            "OPENAI_API_KEY is set, but the package openai is not installed: each search would fail.",
            hint="Run `pip install --require-hashes -r requirements-openai.txt`; with Docker, set "
            "REQUIREMENTS=requirements-openai.txt in `.env` and build the image again. Or leave OPENAI_API_KEY empty.",
            id="HomeApp.E001",
        )


@register(Tags.security, deploy=True)
def all_machines_have_one_secret_key(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell if the secret key is made on each machine: sessions and tokens of one are refused by the others."""
    if not settings.SECRET_KEY_FROM_ENVIRONMENT:
        yield CheckWarning(
            f"SECRET_KEY is not set: each machine makes one of its own, in {settings.DATA_DIR}. A session or token of "
            "one is refused by the web processes of the others.",
            hint="If there are several machines, then set SECRET_KEY in the environment, the same for all.",
            id="HomeApp.W001",
        )
