"""The jobs and all that belongs to them move to the tables of livejobs, rows and permissions included."""

import django.db.models.deletion
from django.db import migrations, models

#: The models that move; those that others point to come first.
MOVED = ["Worker", "RelayLease", "Job"]


def copy_rows(apps, schema_editor):
    """Copy all rows, within the database."""
    quote = schema_editor.quote_name
    for name in MOVED:
        old, new = apps.get_model("HomeApp", name)._meta, apps.get_model("livejobs", name)._meta
        columns = ", ".join(quote(field.column) for field in old.concrete_fields)
        schema_editor.execute(
            f"INSERT INTO {quote(new.db_table)} ({columns}) SELECT {columns} FROM {quote(old.db_table)}"
        )
    if schema_editor.connection.vendor == "postgresql":
        # PostgreSQL alters no table whose foreign keys are still to be checked at the end of the transaction.
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        schema_editor.execute("SET CONSTRAINTS ALL DEFERRED")


def move_content_types(apps, schema_editor):
    """Keep the permissions that users and groups have, and what the admin has logged.

    `migrate livejobs` alone makes the new types. They are deleted if the old ones are still there: permissions and the
    log refer to the old ones.
    """
    types = apps.get_model("contenttypes", "ContentType").objects
    for name in MOVED:
        old = types.filter(app_label="HomeApp", model=name.lower())
        if old.exists():
            types.filter(app_label="livejobs", model=name.lower()).delete()
            old.update(app_label="livejobs")


class Migration(migrations.Migration):

    dependencies = [
        ("HomeApp", "0003_relay_lease"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("livejobs", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(copy_rows),
        migrations.RunPython(move_content_types),
        migrations.AlterField(
            model_name="searchresult",
            name="job",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="results", to="livejobs.job"
            ),
        ),
        migrations.DeleteModel(name="Job"),
        migrations.DeleteModel(name="Worker"),
        migrations.DeleteModel(name="RelayLease"),
    ]
