"""Corrections, their rows and images. Never changed once released: the next one changes it."""

import sqlalchemy as sa
from alembic import op

from polydetr.web.store.tables import Moment

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.create_table(
        "corrected_rows",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("row", sa.Text, nullable=False),
    )
    op.create_table(
        "corrected_images",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "corrected_row_images",
        sa.Column("row_key", sa.String(64), sa.ForeignKey("corrected_rows.key", ondelete="CASCADE"), primary_key=True),
        sa.Column("sha256", sa.String(64), sa.ForeignKey("corrected_images.sha256"), primary_key=True),
    )
    op.create_index("ix_corrected_row_images_sha256", "corrected_row_images", ["sha256"])
    op.create_table(
        "corrections",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("version", sa.String(256), nullable=False),
        sa.Column("row_key", sa.String(64), sa.ForeignKey("corrected_rows.key"), nullable=False),
        sa.Column("target", sa.String(256), nullable=False),
        sa.Column("form", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("undoes", sa.String(64)),
        sa.UniqueConstraint("model", "row_key", "target", "revision", name="uq_corrections_model"),
        sa.UniqueConstraint("undoes", name="uq_corrections_undoes"),
        sa.CheckConstraint("kind IN ('confirmed', 'repaired', 'withdrawn')", name="ck_corrections_kind"),
    )
    for column in ("row_key", "person", "at"):
        op.create_index(f"ix_corrections_{column}", "corrections", [column])
