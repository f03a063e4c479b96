"""The site's own ASGI application, which knows the measured task too."""

from importlib import import_module

from CeleryProgressbar.asgi import application

import_module("benchmarks.tasks")  # once the apps are loaded

__all__ = ["application"]
