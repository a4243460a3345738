"""The cameras that are or were registered, with their jurisdiction."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cameras",
        sa.Column("camera_id", sa.Text, primary_key=True),
        sa.Column("jurisdiction", sa.Text, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("cameras")
