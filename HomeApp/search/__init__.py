"""Searching: the work of `search`, behind one small interface. It knows no Django request and no Celery.

provider.py       the interface: what a search reports, and what it brings
openai.py         OpenAI's web search, where the site has a key
library.py        the embedded one: full text over the documentation of Python's own library
documentation.py  what that one reads
"""

from django.conf import settings

from HomeApp.search.library import LibrarySearch
from HomeApp.search.provider import Provider


def provider() -> Provider:
    """Return the provider of this site: OpenAI if there is a key, else the embedded search."""
    if settings.OPENAI_API_KEY:
        # Imported here: it takes a second and 50 MB that a site without a key need not spend.
        from HomeApp.search.openai import OpenAISearch

        return OpenAISearch(settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL, settings.OPENAI_MODEL)
    return LibrarySearch(settings.DATA_DIR / "search")
