"""Makes visitors, each with a session and a job of their own: `python -m benchmarks.visitors COUNT`.

Prints their session keys as JSON. It writes the rows itself, as two thousand visits to the page would take minutes.
"""

import json
import sys

import django


def main(count: int) -> list[str]:
    """Write the rows. Returns the session keys."""
    django.setup()
    from django.contrib.sessions.backends.db import SessionStore

    from livejobs.models import Job
    from livejobs.owner import remember_visitor

    keys, jobs = [], []
    for _ in range(count):
        session = SessionStore()
        jobs.append(Job(owner=remember_visitor(session), kind="count_primes", title="Primes", sent=True))
        session.save()
        keys.append(session.session_key)
    Job.objects.bulk_create(jobs)
    return keys


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
