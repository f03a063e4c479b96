"""`manage.py <name>`."""
