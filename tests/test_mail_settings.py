"""EMAIL_URL, in the settings of each version of Django."""

import pytest
from environ import Env

from CeleryProgressbar.mail import mail_settings

BACKENDS = "django.core.mail.backends"


def settings_of(url: str, version: tuple[int, int]) -> dict:
    return mail_settings(Env.email_url_config(url), timeout=10, version=version)


@pytest.mark.parametrize("version", [(5, 2), (6, 0)], ids=["5.2", "6.0"])
def test_django_before_6_1_has_a_setting_for_each_part(version):
    told = settings_of("smtp+tls://ada:secret@mail.example.org:587", version)
    assert "MAILERS" not in told
    assert told["EMAIL_BACKEND"] == f"{BACKENDS}.smtp.EmailBackend"
    assert (told["EMAIL_HOST"], told["EMAIL_PORT"]) == ("mail.example.org", 587)
    assert (told["EMAIL_USE_TLS"], told["EMAIL_TIMEOUT"]) == (True, 10)


@pytest.mark.parametrize(
    ("url", "backend", "options"),
    [
        (
            "smtp+ssl://ada:secret@mail.example.org:465",
            "smtp",
            {
                "host": "mail.example.org",
                "port": 465,
                "username": "ada",
                "password": "secret",
                "use_ssl": True,
                "timeout": 10,
            },
        ),
        ("filemail:///sent", "filebased", {"file_path": "sent"}),
        ("consolemail://", "console", {}),
        ("dummymail://", "dummy", {}),
    ],
    ids=["smtp", "file", "console", "dummy"],
)
def test_django_6_1_has_a_mailer_with_its_own_options(url, backend, options):
    told = settings_of(url, (6, 1))
    assert told == {"MAILERS": {"default": {"BACKEND": f"{BACKENDS}.{backend}.EmailBackend", "OPTIONS": options}}}
