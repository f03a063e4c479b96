"""System checks: set-ups that fail silently, each with its remedy. `manage.py check` and each run tell of them."""

from livejobs.checks import asgi, broker, channel_layer, database, kinds, sessions, settings

__all__ = ["asgi", "broker", "channel_layer", "database", "kinds", "sessions", "settings"]
