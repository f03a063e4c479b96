"""RabbitMQ, Redis and PostgreSQL for the tests, each with a corner of its own that is gone afterwards.

A service that is missing skips the test, saying so; under CI=true it fails it.
"""

import contextlib
import os
import shutil
import subprocess
import uuid

import psycopg
import pytest
import redis
from kombu import Connection

AMQP = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@localhost:5672/")
REDIS = os.environ.get("TEST_REDIS_URL", "redis://localhost:6379/")
POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
CHROMIUM = "/usr/bin/chromium"


def missing(what: str, problem: object):
    """Skip a test for want of a service, or fail it in CI."""
    reason = f"{what}: {problem}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def rabbitmqctl(*arguments: str) -> str:
    """Run RabbitMQ's own command. Returns what it prints."""
    command = ["rabbitmqctl", "--quiet", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@contextlib.contextmanager
def virtual_host():
    """A virtual host of RabbitMQ, empty. Its URL."""
    if not shutil.which("rabbitmqctl"):
        missing("RabbitMQ", "rabbitmqctl is not installed")
    name = f"test-{uuid.uuid4().hex}"
    url = AMQP.rstrip("/") + f"/{name}"
    try:
        try:
            rabbitmqctl("add_vhost", name)
            rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
            with Connection(url, connect_timeout=5) as connection:
                connection.connect()
        except (subprocess.SubprocessError, OSError) as problem:
            missing("RabbitMQ", getattr(problem, "stderr", None) or problem)
        yield url
    finally:
        rabbitmqctl("delete_vhost", name)


@pytest.fixture(scope="session")
def amqp_url():
    """A virtual host of RabbitMQ, empty."""
    with virtual_host() as url:
        yield url


@contextlib.contextmanager
def redis_database(number: int):
    """A database of Redis, empty; for further processes of pytest-xdist, the next ones downwards. Its URL."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    url = f"{REDIS.rstrip('/')}/{number - int(worker)}"
    client = redis.Redis.from_url(url)
    try:
        client.flushdb()
    except redis.RedisError as problem:
        missing("Redis", problem)
    yield url
    client.flushdb()
    client.close()


@pytest.fixture(scope="session")
def redis_url():
    """A database of Redis for the channel layer, empty."""
    with redis_database(15) as url:
        yield url


@pytest.fixture(scope="session")
def redis_broker_url():
    """A database of Redis for the broker, empty."""
    with redis_database(7) as url:
        yield url


@contextlib.contextmanager
def database():
    """A database of PostgreSQL, empty. Its URL."""
    name = f"test_{uuid.uuid4().hex}"
    try:
        admin = psycopg.connect(POSTGRES, autocommit=True)
    except psycopg.OperationalError as problem:
        missing("PostgreSQL", problem)
    with admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield POSTGRES.rpartition("/")[0] + f"/{name}"
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def postgres_url():
    """A database of PostgreSQL, empty."""
    with database() as url:
        yield url


@pytest.fixture(scope="session")
def chromium():
    """Debian's browser."""
    if not os.access(CHROMIUM, os.X_OK):
        missing("Chromium", f"{CHROMIUM} is not installed")
    return CHROMIUM
