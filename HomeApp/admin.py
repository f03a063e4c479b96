"""The users as the admin sees them."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from HomeApp.models import User

admin.site.register(User, UserAdmin)
