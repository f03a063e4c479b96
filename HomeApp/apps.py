"""This app."""

from django.apps import AppConfig


class HomeAppConfig(AppConfig):
    """The site: its pages, its tasks and its users. Registers its system checks."""

    name = "HomeApp"

    def ready(self) -> None:
        """Import what registers itself."""
        from HomeApp import checks  # noqa: F401
