"""The project's own socket."""

from channels.generic.websocket import AsyncWebsocketConsumer


class Echo(AsyncWebsocketConsumer):
    """Sends back what it receives."""

    async def receive(self, text_data=None, bytes_data=None):
        """Send it back."""
        await self.send(text_data)
