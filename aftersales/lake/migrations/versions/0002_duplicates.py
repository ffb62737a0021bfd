"""Probable duplicates and what people decided about them: duplicate_pair, duplicate_decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    instant, text = sa.DateTime(timezone=True), sa.Text()
    op.create_table(
        "duplicate_pair",
        sa.Column("pair_id", text, nullable=False),
        sa.Column("table_name", text, nullable=False),
        sa.Column("left_id", text, nullable=False),
        sa.Column("right_id", text, nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("found_at", instant, nullable=False),
        sa.Column("found_by", text, nullable=False),
        sa.PrimaryKeyConstraint("pair_id", name="pk_duplicate_pair"),
    )
    op.create_table(
        "duplicate_decision",
        sa.Column("decision_id", sa.Integer(), nullable=False),
        sa.Column("pair_id", text, nullable=False),
        sa.Column("decision", text, nullable=False),
        sa.Column("decided_at", instant, nullable=False),
        sa.Column("decided_by", text, nullable=False),
        sa.Column("note", text, nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name="pk_duplicate_decision"),
        sa.ForeignKeyConstraint(
            ["pair_id"], ["duplicate_pair.pair_id"], name="fk_duplicate_decision_pair_id_duplicate_pair"
        ),
        sa.CheckConstraint("decision in ('same', 'different', 'unsure')", name=op.f("ck_duplicate_decision_decision")),
    )
    op.create_index("ix_duplicate_decision_pair_id", "duplicate_decision", ["pair_id"])


def downgrade() -> None:
    """Remove the tables and everything in them."""
    op.drop_table("duplicate_decision")
    op.drop_table("duplicate_pair")
