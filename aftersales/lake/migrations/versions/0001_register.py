"""The first tables: action, action_change, run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    instant, text = sa.DateTime(timezone=True), sa.Text()
    op.create_table(
        "action",
        sa.Column("action_id", text, nullable=False),
        sa.Column("title", text, nullable=False),
        sa.Column("title_zh", text, nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.Column("issue", text, nullable=False),
        sa.Column("owner", text, nullable=False),
        sa.Column("team", text, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("due_at", sa.Date()),
        sa.Column("implemented_at", sa.Date()),
        sa.Column("review_at", sa.Date()),
        sa.Column("closed_at", instant),
        sa.Column("failure_mode", text, nullable=False),
        sa.Column("scope", sa.JSON()),
        sa.Column("metric", text, nullable=False),
        sa.Column("target_value", sa.Double()),
        sa.Column("note", text, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("action_id", name="pk_action"),
        sa.CheckConstraint(
            "state in ('proposed', 'accepted', 'in_progress', 'implemented', 'hold', 'cancelled', 'closed')",
            name=op.f("ck_action_state"),
        ),
    )
    op.create_index("ix_action_state", "action", ["state"])
    op.create_table(
        "action_change",
        sa.Column("change_id", sa.Integer(), nullable=False),
        sa.Column("action_id", text, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", instant, nullable=False),
        sa.Column("changed_by", text, nullable=False),
        sa.Column("source", text, nullable=False),
        sa.Column("field", text, nullable=False),
        sa.Column("old", text),
        sa.Column("new", text),
        sa.PrimaryKeyConstraint("change_id", name="pk_action_change"),
        sa.ForeignKeyConstraint(["action_id"], ["action.action_id"], name="fk_action_change_action_id_action"),
    )
    op.create_index("ix_action_change_action_id", "action_change", ["action_id"])
    op.create_table(
        "run",
        sa.Column("run_id", text, nullable=False),
        sa.Column("page", text, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("table_versions", sa.JSON(), nullable=False),
        sa.Column("metric_versions", sa.JSON(), nullable=False),
        sa.Column("code_version", text, nullable=False),
        sa.Column("as_of", instant),
        sa.Column("started_by", text, nullable=False),
        sa.Column("started_at", instant, nullable=False),
        sa.Column("seconds", sa.Double()),
        sa.Column("folder", text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_run"),
        sa.CheckConstraint("state in ('ok', 'skipped', 'refused', 'failed')", name=op.f("ck_run_state")),
    )
    op.create_index("ix_run_page_started_at", "run", ["page", "started_at"])


def downgrade() -> None:
    """Remove the tables and everything in them."""
    op.drop_table("run")
    op.drop_table("action_change")
    op.drop_table("action")
