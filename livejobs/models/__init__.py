"""The rows: jobs, the workers that run them, and the lease of the relay."""

from livejobs.models.as_dict import EXACT
from livejobs.models.job import STAGE, Job
from livejobs.models.relay_lease import RelayLease
from livejobs.models.state import FINAL, SEQ_PER_ATTEMPT, State
from livejobs.models.worker import Worker
from livejobs.stages import percent_of

__all__ = ["EXACT", "FINAL", "SEQ_PER_ATTEMPT", "STAGE", "Job", "RelayLease", "State", "Worker", "percent_of"]
