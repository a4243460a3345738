"""Looks that `audit` does not have yet."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WHOLE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "looks_to_send",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("due_us", _WHOLE, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("looks_to_send_by_due", "looks_to_send", ["due_us"])


def downgrade() -> None:
    op.drop_table("looks_to_send")
