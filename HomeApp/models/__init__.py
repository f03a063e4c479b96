"""The rows: jobs, what searches have found, and users."""

from HomeApp.models.job import FINAL, SEQ_PER_ATTEMPT, Job, State, percent_of
from HomeApp.models.search_result import SearchResult
from HomeApp.users import User

__all__ = ["FINAL", "SEQ_PER_ATTEMPT", "Job", "SearchResult", "State", "User", "percent_of"]
