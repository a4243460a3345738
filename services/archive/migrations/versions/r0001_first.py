"""The first tables: segments, gaps, stream states, access log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_WHOLE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _segments()
    _gaps()
    _stream_states()
    _access_log()


def downgrade() -> None:
    for table in ("access_log", "stream_states", "gaps", "segments"):
        op.drop_table(table)


def _segments() -> None:
    op.create_table(
        "segments",
        sa.Column("camera_id", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("epoch", _WHOLE, nullable=False),
        sa.Column("run", _WHOLE, nullable=False),
        sa.Column("seq0", _WHOLE, nullable=False),
        sa.Column("seq1", _WHOLE, nullable=False),
        sa.Column("start_us", _WHOLE, nullable=False),
        sa.Column("dur_us", _WHOLE, nullable=False),
        sa.Column("media_90k", _WHOLE, nullable=False),
        sa.Column("class", sa.Text, nullable=False),
        sa.Column("codec", sa.Text, nullable=False),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("version_id", sa.Text, nullable=False),
        sa.Column("bytes", _WHOLE, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("init_sha256", sa.Text, nullable=False),
        sa.Column("init_bytes", _WHOLE, nullable=False),
        sa.Column("fragments", _WHOLE, nullable=False),
        sa.Column("frames", _WHOLE, nullable=False),
        sa.Column("camera_signature", sa.Text, nullable=False),
        sa.Column("clock_ok", sa.Boolean, nullable=False),
        sa.Column("dependent", sa.Boolean, nullable=False),
        sa.Column("overlap", sa.Boolean, nullable=False),
        sa.Column("late", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.UniqueConstraint("camera_id", "stream", "epoch", "start_us", name="segments_by_start"),
        sa.UniqueConstraint("camera_id", "stream", "epoch", "seq0", "start_us", name="segments_by_seq"),
    )
    op.create_index("segments_by_time", "segments", ["camera_id", "stream", "start_us"])


def _gaps() -> None:
    op.create_table(
        "gaps",
        sa.Column("gap_id", sa.Text, primary_key=True),
        sa.Column("camera_id", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("from_us", _WHOLE, nullable=False),
        sa.Column("to_us", _WHOLE),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("writer", sa.Text, nullable=False),
        sa.Column("repaired_by", sa.Text),
        sa.Column("recorded_at_us", _WHOLE, nullable=False),
    )
    op.create_index("gaps_by_time", "gaps", ["camera_id", "stream", "from_us"])


def _stream_states() -> None:
    op.create_table(
        "stream_states",
        sa.Column("camera_id", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("since_us", _WHOLE, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("codec", sa.Text),
        sa.Column("epoch", _WHOLE),
        sa.PrimaryKeyConstraint("camera_id", "stream", "since_us", "state", "detail"),
    )


def _access_log() -> None:
    op.create_table(
        "access_log",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("at_us", _WHOLE, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("camera_id", sa.Text),
        sa.Column("from_us", _WHOLE),
        sa.Column("to_us", _WHOLE),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("bytes", _WHOLE, nullable=False),
        sa.Column("trace_id", sa.Text),
    )
    op.create_index("access_log_by_time", "access_log", ["at_us"])
    op.create_index("access_log_by_camera", "access_log", ["camera_id", "at_us"])
