"""The rows of the site: what searches have found, and users."""

from HomeApp.models.search_result import SearchResult
from HomeApp.users import User

__all__ = ["SearchResult", "User"]
