"""Who asked what, and got how much: access_log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    instant, text = sa.DateTime(timezone=True), sa.Text()
    op.create_table(
        "access_log",
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("at", instant, nullable=False),
        sa.Column("user", text, nullable=False),
        sa.Column("role", text, nullable=False),
        sa.Column("administrator", text, nullable=False),
        sa.Column("run_id", text, nullable=False),
        sa.Column("purpose", text, nullable=False),
        sa.Column("action", text, nullable=False),
        sa.Column("object", text, nullable=False),
        sa.Column("tables", sa.JSON(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("suppressed_count", sa.Integer(), nullable=False),
        sa.Column("milliseconds", sa.Double(), nullable=False),
        sa.Column("question", text, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_access_log"),
    )
    op.create_index("ix_access_log_at", "access_log", ["at"])
    op.create_index("ix_access_log_user_at", "access_log", ["user", "at"])


def downgrade() -> None:
    """Remove the table and everything in it."""
    op.drop_table("access_log")
