"""A real SMTP server for the tests: aiosmtpd, in a thread of its own, which answers as it is told."""

import asyncio

from aiosmtpd.controller import Controller

from testkit.processes import free_port


class MailServer:
    """A mail server.

    Args:
        answers: to the recipients it is given, one after the other: a reply line, or "silence"; the last one stays.
    """

    def __init__(self, *answers: str):
        self.answers = list(answers)
        self.asked: list[str] = []  #: every recipient it has been given
        self.taken: list[str] = []  #: the messages it has taken
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port())

    @property
    def port(self) -> int:
        return self.controller.port

    @property
    def url(self) -> str:
        """Its EMAIL_URL."""
        return f"smtp://127.0.0.1:{self.port}"

    def __enter__(self):
        self.controller.start()
        return self

    def __exit__(self, *_):
        self.controller.stop()

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        self.asked.append(address)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "silence":
            await asyncio.Event().wait()
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.taken.append(envelope.content.decode())
        return "250 Taken"
