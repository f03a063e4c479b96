"""`manage.py run_relay`: a relay without a web process, for a site that WSGI servers serve."""

import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand

from livejobs.lifespan import new_relay, start, stop


class Command(BaseCommand):
    """Carries reports from the broker to the jobs' rows, and to the web processes that have sockets."""

    help = (
        "Carries the reports of jobs from the broker to their rows, until SIGTERM or Ctrl-C. Web processes of "
        "livejobs.asgi do so themselves. A site that is served by WSGI alone needs this command."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal asks for the end."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        relay = new_relay()
        await start(relay)
        self.stdout.write("The relay runs.")
        await asked.wait()
        await stop(relay)
