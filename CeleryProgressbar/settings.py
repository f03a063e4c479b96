"""All settings, each read once from the environment and each with a default that just runs."""

import re
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from CeleryProgressbar.mail import mail_settings
from CeleryProgressbar.secret_key import own_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

# Files this deployment writes: the SQLite database, the filesystem broker, the secret key.
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "var"))).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)

# Django

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY_FROM_ENVIRONMENT = env.str("SECRET_KEY", default="")
SECRET_KEY = SECRET_KEY_FROM_ENVIRONMENT or own_secret_key(DATA_DIR)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

# How many proxies stand before the site. Without one, X-Forwarded-For and -Proto are a visitor's invention.
PROXIES = env.int("PROXIES", default=0)
if PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = [
    # First: it takes over `runserver`. It loads Twisted, which would cost each other process a quarter of its start.
    *(["daphne"] if "runserver" in sys.argv and find_spec("daphne") else []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "HomeApp",  # before the engine, whose pages it has in its own frame
    "livejobs",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# Nothing inline, and nothing of other hosts but jQuery. Source: W3C, "Content Security Policy Level 3".
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'", "https://code.jquery.com/jquery-3.7.1.min.js"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

ROOT_URLCONF = "CeleryProgressbar.urls"
ASGI_APPLICATION = "CeleryProgressbar.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
# WhiteNoise serves the apps' own static folders: no collectstatic, the same in every way to run.
WHITENOISE_USE_FINDERS = True

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'db.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # WAL: readers never wait for the writer. IMMEDIATE: two writers queue up instead of failing half way.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        **DATABASES["default"].get("OPTIONS", {}),
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # Under ASGI a connection kept per thread would be lost with its thread: a pool keeps them. It looks whether one
    # still works before it gives it away: after a restart of the database, none does.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # What DATABASE_URL says, as `?sslmode=require`, stays.
    pool = {"pool": {"min_size": 1, "max_size": 20, "timeout": 10}}
    DATABASES["default"]["OPTIONS"] = {**pool, **DATABASES["default"].get("OPTIONS", {})}

AUTH_USER_MODEL = "HomeApp.User"
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "login", "home", "home"

vars().update(
    mail_settings(
        env.email_url("EMAIL_URL", default="consolemail://"),
        timeout=env.float("EMAIL_TIMEOUT", default=10),  # seconds
    )
)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="CeleryProgressbar <webmaster@localhost>")

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        name: {"handlers": ["console"], "level": "INFO", "propagate": False}
        for name in ("livejobs", "HomeApp", "django")
    }
    # It notes each address asked, and an address may hold a password.
    | {"httpx2": {"level": "WARNING"}},
}

# The JSON API

REST_FRAMEWORK = {
    # The first one tells how a request without authentication is answered: 401, with WWW-Authenticate.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework_simplejwt.authentication.JWTAuthentication",
        "livejobs.api.request.VisitorAuthentication",
    ],
    "DEFAULT_PARSER_CLASSES": ["livejobs.api.request.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "livejobs.api.problem.exception_handler",
    "NUM_PROXIES": PROXIES,
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=5),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=1),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
    "CHECK_REVOKE_TOKEN": True,  # a new password ends the old one's tokens
}
SPECTACULAR_SETTINGS = {
    "TITLE": "CeleryProgressbar",
    "DESCRIPTION": "Start jobs and watch them. Every error has the same shape.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",  # served by this site
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# What the names of all queues, channel groups and cache keys begin with, so that deployments may share their services.
DEPLOYMENT = env.str("DEPLOYMENT", default="celeryprogressbar")
if not re.fullmatch(r"[A-Za-z0-9._-]{1,28}", DEPLOYMENT):  # a channel's name has less than 100 characters
    raise ImproperlyConfigured("DEPLOYMENT: give 1 to 28 letters (a-z), digits, periods, underscores or hyphens.")

# Channels

REDIS_URL = env.str("REDIS_URL", default="")
if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # redis-py's default socket_timeout of 5 s would end the layer's blocking read of an idle channel.
            "CONFIG": {
                "hosts": [{"address": REDIS_URL, "socket_timeout": None}],
                "prefix": f"{DEPLOYMENT}:",
                # Each web process enters the group again every few seconds; one that was killed is not to be sent
                # messages for a day. The seconds leave room for the differences between the machines' clocks.
                "group_expiry": 600,
            },
        }
    }
    # What web processes count together: sign-ups.
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
            "KEY_PREFIX": DEPLOYMENT,
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

# A client frame is at most 32 KiB; the servers take in somewhat more, so that a larger one is answered in words.
DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE = 64 * 1024
DAPHNE_WEBSOCKET_MAX_FRAME_SIZE = 64 * 1024

# Celery

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="filesystem://localhost//")
if CELERY_BROKER_URL.startswith("filesystem:"):
    for name in ("queue", "control"):
        (DATA_DIR / "broker" / name).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(DATA_DIR / "broker" / "queue"),
        "data_folder_out": str(DATA_DIR / "broker" / "queue"),
        "control_folder": str(DATA_DIR / "broker" / "control"),
        "polling_interval": 0.05,
    }
elif CELERY_BROKER_URL.startswith(("amqp:", "pyamqp:", "amqps:")):
    # A message counts as sent when the broker has said so, not when it has left this process.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
elif CELERY_BROKER_URL.startswith(("redis:", "rediss:", "unix:")):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "global_keyprefix": f"{DEPLOYMENT}.",
        # Seconds until a task that a dead worker had taken is delivered again. A second delivery of a task that still
        # runs does no harm: the job's lease tells.
        "visibility_timeout": env.float("CELERY_VISIBILITY_TIMEOUT", default=3600),
        "socket_connect_timeout": 0.8,
        "socket_timeout": 5,
    }
# RabbitMQ closes the channel of a task that is not acknowledged within its `consumer_timeout` of 30 minutes, and
# delivers it again. The worker opens another channel, and the job's lease makes the second delivery a duplicate.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
# Seconds. Sending to a broker that hangs takes a confirmation and two connections to give up: less than 3 s in all.
CELERY_BROKER_CONNECTION_TIMEOUT = 0.8
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # it comes back some day
# A job in the midst of its work goes on while the broker is away; should another worker begin it anew, the first to end
# it wins.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_HEARTBEAT = 10
CELERY_TASK_DEFAULT_QUEUE = f"{DEPLOYMENT}.jobs"
CELERY_CONTROL_EXCHANGE = f"{DEPLOYMENT}.control"
CELERY_EVENT_EXCHANGE = f"{DEPLOYMENT}.events"
# For plain tasks; every job's task has a result backend of its own (livejobs/backend.py).
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND", default=REDIS_URL or f"file://{DATA_DIR / 'results'}")
if CELERY_RESULT_BACKEND.startswith("file:///"):
    Path(CELERY_RESULT_BACKEND.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
elif CELERY_RESULT_BACKEND.startswith("rediss:") and "ssl_cert_reqs" not in CELERY_RESULT_BACKEND:
    # What redis-py and channels_redis do of themselves, Celery wants to be told.
    CELERY_RESULT_BACKEND += ("&" if "?" in CELERY_RESULT_BACKEND else "?") + "ssl_cert_reqs=required"
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# Jobs are long, so no worker takes more than it runs.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

# Search: without a key, the embedded one answers, from Python's own documentation.

OPENAI_API_KEY = env.str("OPENAI_API_KEY", default="")
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", default="https://api.openai.com/v1")
OPENAI_MODEL = env.str("OPENAI_MODEL", default="gpt-5.4-mini")
# `celery beat` sends these.
CELERY_BEAT_SCHEDULE = {
    "delete_old_files": {"task": "HomeApp.tasks.delete_old_files", "schedule": timedelta(hours=1)},
    "prune_jobs": {"task": "HomeApp.tasks.prune_jobs", "schedule": timedelta(hours=1)},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat")

# The engine: see livejobs/conf.py.

LIVEJOBS = {
    "DEPLOYMENT": DEPLOYMENT,
    "UNFINISHED_PER_OWNER": env.int("JOBS_UNFINISHED_PER_OWNER", default=5),
    "RECENT": env.int("JOBS_RECENT", default=10),
    "SOCKETS_PER_OWNER": env.int("SOCKETS_PER_OWNER", default=20),
    # With web processes and workers on several machines, a folder that they share.
    "FILES_DIR": DATA_DIR / "files",
    "KEEP_DAYS": env.float("JOBS_KEEP_DAYS", default=30),
    "FILES_KEEP_HOURS": env.float("FILES_KEEP_HOURS", default=24),
    "TOKENS": "livejobs.api.tokens",
}

# The site's own limits

SIGNUPS_PER_ADDRESS = env.int("SIGNUPS_PER_ADDRESS", default=60)  # in an hour
