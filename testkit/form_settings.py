"""The site's settings with kinds whose forms have files, several parts and long texts, and a page for each kind."""

from CeleryProgressbar.settings import *  # noqa: F403
from CeleryProgressbar.settings import LIVEJOBS

CELERY_IMPORTS = ["testkit.form_tasks"]
ROOT_URLCONF = "testkit.form_urls"
LIVEJOBS = {**LIVEJOBS, "UPLOAD_MIB": 0.5}
