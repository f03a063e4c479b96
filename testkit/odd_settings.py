"""The site's settings with kinds of the tests' own: web processes send jobs again, so they know the kinds too."""

from CeleryProgressbar.settings import *  # noqa: F403

CELERY_IMPORTS = ["testkit.odd_tasks"]
