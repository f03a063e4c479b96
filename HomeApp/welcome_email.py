"""The welcome e-mail: what it says, and what to think of a mail server's answer."""

import smtplib

from django.core.mail import send_mail
from django.template.loader import render_to_string

SUBJECT = "Welcome to CeleryProgressbar"

REFUSED = "The e-mail could not be sent: the mail server refused it."
BUSY = "The e-mail could not be sent: the mail server does not take it now."
SILENT = "The e-mail could not be sent: the mail server does not answer."


class Unsent(Exception):
    """The e-mail has not gone out.

    Args:
        reason: a sentence for its reader-to-be, which tells nothing of the mail server's inside.
        temporary: whether it may go out later.
    """

    def __init__(self, reason: str, temporary: bool) -> None:
        super().__init__(reason)
        self.temporary = temporary


def send(address: str, username: str) -> None:
    """Send the welcome e-mail by the site's mail backend.

    Args:
        address: where to.
        username: how the user logs in.

    Raises:
        Unsent: the mail server did not take it.
    """
    text = render_to_string("HomeApp/welcome_email.txt", {"username": username})
    try:
        send_mail(SUBJECT, text, None, [address])
    except OSError as problem:  # smtplib's own exceptions are OSErrors too
        raise _unsent(problem) from problem


def _unsent(problem: OSError) -> Unsent:
    """Tell from an exception whether a mail server may take the e-mail later.

    A reply code of 400 to 499 says "later", one of 500 to 599 "never". Source: RFC 5321, section 4.2.1.
    """
    codes = []
    if isinstance(problem, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in problem.recipients.values()]
    elif isinstance(problem, smtplib.SMTPResponseException):
        codes = [problem.smtp_code]
    if codes:
        later = any(400 <= code < 500 for code in codes)
        return Unsent(BUSY if later else REFUSED, temporary=later)
    if isinstance(problem, smtplib.SMTPNotSupportedError):
        return Unsent(REFUSED, temporary=False)
    return Unsent(SILENT, temporary=True)
