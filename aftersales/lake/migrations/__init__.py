"""Versions of the register's tables, run from Python without an alembic.ini.

A new version: change the models in `aftersales.lake.register`, then
`command.revision(configuration(connection), message="...", rev_id="0002", autogenerate=True)` on a register of the
old version, read the file it writes, and set `register.SCHEMA_VERSION`. Numbers are four digits and count up.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config


def configuration(connection: sa.Connection) -> Config:
    """Alembic's settings for an open connection; the caller owns the transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the tables up to `revision` inside the caller's transaction."""
    command.upgrade(configuration(connection), revision)


def downgrade(connection: sa.Connection, revision: str) -> None:
    """Take the tables back to `revision` ("base": none at all) inside the caller's transaction; this loses data."""
    command.downgrade(configuration(connection), revision)
