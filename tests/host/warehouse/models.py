"""The project's own user."""

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A user whose primary key is a UUID."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
