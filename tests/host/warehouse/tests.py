"""The project's own tests, in eager mode."""

from django.test import TestCase

from warehouse.models import User
from warehouse.tasks import add, import_stock


class StockTest(TestCase):
    """What the project relies on."""

    def test_a_plain_task(self):
        """Its result is there at once."""
        assert add.delay(1, 2).get() == 3

    def test_the_tasks_that_celery_progress_shows(self):
        """They are started by a page."""
        answer = self.client.get("/import/").json()
        assert answer["import"].startswith("/shop/celery-progress/")
        assert import_stock.delay().get() == 20

    def test_a_user(self):
        """It has a UUID."""
        user = User.objects.create_user("ada")
        assert len(str(user.pk)) == 36
