"""Run by Alembic, never imported: how a migration reaches the database."""

from __future__ import annotations

from alembic import context

from aftersales.lake.register import VERSION_TABLE, Base


def run_migrations() -> None:
    """Migrate on the connection that `aftersales.lake.migrations` was given."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        render_as_batch=True,  # SQLite alters a table by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


if __name__ == "env_py":  # the name Alembic gives this file
    run_migrations()
