"""A worker waits for the database: its outage ends no job."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connections

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

#: Seconds until the database is tried again.
RETRY_AFTER = 1.0


def with_database(task_id: str, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call a function that uses the database; while that cannot be reached, call it again.

    Args:
        task_id: of the job that waits.
        function: may have been carried out already when it is called again.
        *args: of the function.
        **kwargs: of the function.
    """
    while True:
        try:
            return function(*args, **kwargs)
        except (OperationalError, InterfaceError) as problem:
            logger.warning("Job %s waits for the database: %r", task_id, problem)
            connections.close_all()
            time.sleep(RETRY_AFTER)
