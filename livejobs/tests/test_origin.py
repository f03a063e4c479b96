"""Which pages may open a socket."""

from urllib.parse import urlparse

import pytest

from livejobs.origin import SiteOriginValidator


@pytest.mark.parametrize(
    ("debug", "hosts", "origin", "is_let_in"),
    [
        (True, [], "http://127.0.0.1:8000", True),
        (True, [], "http://localhost:8000", True),
        (True, [], "http://[::1]:8000", True),
        (True, [], "http://example.org", False),
        (True, ["example.org"], "http://127.0.0.1:8000", False),
        (False, [], "http://127.0.0.1:8000", False),
        (False, ["example.org"], "https://example.org", True),
    ],
)
def test_sockets_are_let_in_from_the_hosts_that_django_serves(settings, debug, hosts, origin, is_let_in):
    settings.DEBUG, settings.ALLOWED_HOSTS = debug, hosts
    assert SiteOriginValidator(None).valid_origin(urlparse(origin)) is is_let_in


def test_a_client_that_is_no_browser_names_no_origin(settings):
    assert SiteOriginValidator(None).valid_origin(None)
