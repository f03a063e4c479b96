"""The welcome e-mail, before a real mail server."""

import smtplib

import pytest
from environ import Env

from CeleryProgressbar.mail import mail_settings
from HomeApp import welcome_email
from testkit.mail_server import MailServer
from testkit.processes import free_port


@pytest.fixture
def smtp(settings):
    """Points the site to a mail server."""

    def point(port):
        parsed = Env.email_url_config(f"smtp://127.0.0.1:{port}")
        for name, value in mail_settings(parsed, timeout=0.3).items():
            setattr(settings, name, value)

    return point


@pytest.fixture
def mail_server(smtp):
    """Starts a mail server with its answers, and points the site to it."""
    servers = []

    def start(*answers):
        server = MailServer(*answers)
        servers.append(server.__enter__())
        smtp(server.port)
        return server

    yield start
    for server in servers:
        server.__exit__()


def unsent() -> welcome_email.Unsent:
    with pytest.raises(welcome_email.Unsent) as caught:
        welcome_email.send("ada@example.org", "ada")
    return caught.value


def test_the_mail_server_takes_it(mail_server, settings):
    settings.DEFAULT_FROM_EMAIL = "the site <site@example.org>"
    server = mail_server("250 OK")
    welcome_email.send("ada@example.org", "ada+<&")
    assert server.asked == ["ada@example.org"]
    [message] = server.taken
    assert "From: the site <site@example.org>" in message
    assert "To: ada@example.org" in message
    assert "Subject: Welcome to CeleryProgressbar" in message
    assert "Welcome, ada+<&." in message


@pytest.mark.parametrize("answer", ["550 No such user here", "553 Never"])
def test_a_refusal_is_for_ever(mail_server, answer):
    mail_server(answer)
    assert (str(unsent()), unsent().temporary) == (welcome_email.REFUSED, False)


@pytest.mark.parametrize("answer", ["450 Greylisted", "451 Later", "421 Shutting down"])
def test_a_server_that_says_later_is_asked_later(mail_server, answer):
    mail_server(answer)
    assert (str(unsent()), unsent().temporary) == (welcome_email.BUSY, True)


def test_a_silent_server_is_asked_later(mail_server):
    server = mail_server("silence")
    problem = unsent()
    assert server.asked
    assert (str(problem), problem.temporary) == (welcome_email.SILENT, True)


def test_a_server_out_of_reach_is_asked_later(smtp):
    smtp(free_port())
    assert (str(unsent()), unsent().temporary) == (welcome_email.SILENT, True)


@pytest.mark.parametrize(
    ("problem", "temporary"),
    [
        (smtplib.SMTPSenderRefused(550, b"No", "site@example.org"), False),
        (smtplib.SMTPSenderRefused(452, b"Full", "site@example.org"), True),
        (smtplib.SMTPDataError(554, b"Spam"), False),
        (smtplib.SMTPAuthenticationError(535, b"Who?"), False),
        (smtplib.SMTPConnectError(421, b"Busy"), True),
        (smtplib.SMTPNotSupportedError("No STARTTLS"), False),
        (smtplib.SMTPServerDisconnected("gone"), True),
        (TimeoutError(), True),
    ],
    ids=lambda value: getattr(value, "smtp_code", None) or type(value).__name__,
)
def test_every_answer_is_told_apart(monkeypatch, problem, temporary):
    def fail(*_):
        raise problem

    monkeypatch.setattr(welcome_email, "send_mail", fail)
    told = unsent()
    assert told.temporary is temporary
    assert str(told) in (welcome_email.REFUSED, welcome_email.BUSY, welcome_email.SILENT)
