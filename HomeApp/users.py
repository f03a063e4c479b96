"""The user: a person who has signed up."""

from typing import ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.auth.validators import ASCIIUsernameValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.db.models.lookups import Exact

NAME_TAKEN = "This user name is taken. Choose another one."
EMAIL_TAKEN = "There is a user with this e-mail address already. Log in, or give another address."


class CaselessUserManager(UserManager["User"]):
    """Finds users by names and addresses whose case does not matter."""

    use_in_migrations = False

    def same(self, field: str, value: str) -> models.QuerySet["User"]:
        """Return the users with the same name or address, whatever its case; found by the constraints' indexes.

        Args:
            field: `username` or `email`.
            value: what it says, in ASCII.
        """
        return self.filter(Exact(Lower(field), value.lower()))

    def get_by_natural_key(self, username: str | None) -> "User":
        """Return the user who logs in with that name."""
        return self.same("username", username or "").get()


class User(AbstractUser):
    """A person who has signed up. No two have the same name or the same e-mail address, whatever its case.

    Names are ASCII: then every database has the same opinion of their case, and no two look alike.
    """

    username = models.CharField(
        "user name",
        max_length=150,
        unique=True,  # as Django asks of a log-in name; the constraint below says more
        error_messages={"unique": NAME_TAKEN},
        help_text="Letters, digits and @ . + - _ only.",
        validators=[ASCIIUsernameValidator()],
    )

    objects: ClassVar[CaselessUserManager] = CaselessUserManager()

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(Lower("username"), name="one_user_per_name", violation_error_message=NAME_TAKEN),
            models.UniqueConstraint(
                Lower("email"),
                condition=~Q(email=""),
                name="one_user_per_email",
                violation_error_message=EMAIL_TAKEN,
            ),
        ]
