"""What archive knows, in SQL: segments, gaps, stream states, access. SQLite by default, PostgreSQL later.

All calls block; `Catalog` is used from archive's own threads (one writes, several read). Times are whole
microseconds UTC, ranges half-open. Offsets of fragments never come here: they live in each object's
`mfra`. No row is ever changed but a gap's end and repair, and whose a camera is.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, CursorResult, Engine

from services.archive.segmenter import EpochId
from services.contracts import codec
from services.contracts.audit import Access
from services.contracts.epoch import RunId
from services.contracts.fragment import SignatureState
from services.contracts.gap import Gap, GapCause, Side
from services.contracts.stream import StreamState
from services.contracts.units import StreamName, UtcMicroseconds
from services.runtime.errors import RetryLater, SettingsError

MIGRATIONS: Final = Path(__file__).with_name("migrations")
LONGEST_SEGMENT_US: Final = 600_000_000
"""No segment lasts longer: 120 s of media, with room for a clock that runs at the wrong rate."""

metadata: Final = sa.MetaData()
_WHOLE: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")

segments: Final = sa.Table(
    "segments",
    metadata,
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
    # PostgreSQL will be partitioned by start_us, which must then be part of every unique constraint.
    sa.UniqueConstraint("camera_id", "stream", "epoch", "seq0", "start_us", name="segments_by_seq"),
    sa.Index("segments_by_time", "camera_id", "stream", "start_us"),
)
gaps: Final = sa.Table(
    "gaps",
    metadata,
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
    sa.Index("gaps_by_time", "camera_id", "stream", "from_us"),
)
stream_states: Final = sa.Table(
    "stream_states",
    metadata,
    sa.Column("camera_id", sa.Text, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("since_us", _WHOLE, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("codec", sa.Text),
    sa.Column("epoch", _WHOLE),
    sa.PrimaryKeyConstraint("camera_id", "stream", "since_us", "state", "detail"),
)
access_log: Final = sa.Table(
    "access_log",
    metadata,
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
    sa.Index("access_log_by_time", "at_us"),
    sa.Index("access_log_by_camera", "camera_id", "at_us"),
)
looks_to_send: Final = sa.Table(
    "looks_to_send",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("due_us", _WHOLE, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("looks_to_send_by_due", "due_us"),
)
cameras: Final = sa.Table(
    "cameras",
    metadata,
    sa.Column("camera_id", sa.Text, primary_key=True),
    sa.Column("jurisdiction", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stored segment: a row."""

    run_id: RunId
    seq0: int
    seq1: int
    start_us: UtcMicroseconds
    dur_us: int
    media_90k: int
    retention_class: str
    codec: str
    bucket: str
    key: str
    version_id: str
    size_bytes: int
    sha256: str
    init_sha256: str
    init_bytes: int
    fragments: int
    frames: int
    camera_signature: SignatureState
    clock_ok: bool
    dependent: bool
    overlap: bool

    @property
    def end_us(self) -> UtcMicroseconds:
        return self.start_us + self.dur_us


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """A gap as the timeline needs it."""

    gap_id: str
    from_us: UtcMicroseconds
    to_us: UtcMicroseconds | None
    cause: GapCause
    detail: str
    side: Side
    writer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochKnown:
    """What is stored of one epoch: its seq ranges and the end of its last fragment."""

    ranges: tuple[tuple[int, int], ...]
    end_us: UtcMicroseconds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamKnown:
    """What is stored of one camera stream: its newest epoch, and where its footage ends."""

    newest_epoch: int | None
    end_us: UtcMicroseconds | None


class Added(StrEnum):
    """What became of a row."""

    NEW = "new"
    SAME = "same"
    CONFLICT = "conflict"


class Catalog:
    """The tables behind one engine. Writes go through one connection at a time."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._writing = threading.Lock()
        self._insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert

    def migrate(self) -> None:
        """Bring the tables to this release.

        Raises:
            SettingsError: the catalog cannot be opened, or a later release has written it.
        """
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        try:
            with self._writing, self._engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except sa.exc.SQLAlchemyError as error:
            raise SettingsError(f"the catalog cannot be opened: {_reason(error)}") from error

    def close(self) -> None:
        self._engine.dispose()

    def add_segment(self, segment: Segment) -> Added:
        """Insert a row unless it is there; the first version of a key stays."""
        row = _segment_row(segment)
        statement = self._insert(segments).values(**row).on_conflict_do_nothing()
        with self._write() as connection:
            overlapping = connection.execute(_overlapping(segment)).mappings().all()
            if not overlapping:
                connection.execute(statement)
                return Added.NEW
        same = len(overlapping) == 1 and all(overlapping[0][name] == row[name] for name in ("key", "sha256"))
        return Added.SAME if same else Added.CONFLICT

    def add_gaps(self, found: Iterable[Gap]) -> int:
        """Insert gaps that archive found itself; one that is there already stays. Return how many are new."""
        with self._write() as connection:
            return sum(
                _affected(connection.execute(self._insert(gaps).values(**_gap_row(gap)).on_conflict_do_nothing()))
                for gap in found
            )

    def keep_gap(self, connection: Connection, gap: Gap) -> None:
        """Insert or complete a gap said on `streams`. Replays change nothing: an end is never taken back."""
        insert = self._insert(gaps).values(**_gap_row(gap))
        closed = insert.excluded.to_us.is_not(None)
        said = {
            name: sa.case((closed, insert.excluded[name]), else_=gaps.c[name])
            for name in ("cause", "detail", "evidence", "side", "writer")
        }
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["gap_id"],
                set_={
                    "to_us": sa.func.coalesce(insert.excluded.to_us, gaps.c.to_us),
                    "repaired_by": sa.func.coalesce(insert.excluded.repaired_by, gaps.c.repaired_by),
                    **said,
                },
            )
        )

    def keep(self, bodies: Sequence[tuple[str, Gap | StreamState | Access]]) -> None:
        """Write bodies from `streams` and `audit`, each with its event's identity, in one transaction."""
        with self._write() as connection:
            for event_id, body in bodies:
                self._keep_one(connection, event_id, body)

    def _keep_one(self, connection: Connection, event_id: str, body: Gap | StreamState | Access) -> None:
        if isinstance(body, Gap):
            self.keep_gap(connection, body)
            return
        table = stream_states if isinstance(body, StreamState) else access_log
        row = msgspec.structs.asdict(body)
        if isinstance(body, Access):
            row["event_id"] = event_id
        connection.execute(self._insert(table).values(**row).on_conflict_do_nothing())

    def keep_look(self, event_id: str, due_us: UtcMicroseconds, access: Access) -> None:
        """Keep a look until `audit` has it; the same id again replaces it."""
        insert = self._insert(looks_to_send)
        statement = insert.on_conflict_do_update(index_elements=["event_id"], set_={"body": insert.excluded.body})
        row = {"event_id": event_id, "due_us": due_us, "body": codec.encode(access)}
        with self._write() as connection:
            connection.execute(statement, row)

    def looks_due(self, now_us: UtcMicroseconds | None, *, limit: int) -> dict[str, Access]:
        """Return looks to send by id, the earliest due first; None: whether due or not."""
        query = sa.select(looks_to_send).order_by(looks_to_send.c.due_us).limit(limit)
        if now_us is not None:
            query = query.where(looks_to_send.c.due_us <= now_us)
        return {row["event_id"]: codec.decode(row["body"], Access) for row in self._rows(query)}

    def drop_looks(self, event_ids: Sequence[str]) -> None:
        """Forget looks that `audit` has."""
        with self._write() as connection:
            connection.execute(sa.delete(looks_to_send).where(looks_to_send.c.event_id.in_(event_ids)))

    def count_looks(self) -> int:
        """Return how many looks `audit` does not have yet."""
        return cast("int", self._tuples(sa.select(sa.func.count()).select_from(looks_to_send))[0][0])

    def keep_cameras(self, jurisdictions: Mapping[str, str]) -> None:
        """Remember whose cameras are; one that is there gets its new jurisdiction."""
        rows = [{"camera_id": camera_id, "jurisdiction": whose} for camera_id, whose in jurisdictions.items()]
        insert = self._insert(cameras)
        statement = insert.on_conflict_do_update(
            index_elements=["camera_id"], set_={"jurisdiction": insert.excluded.jurisdiction}
        )
        with self._write() as connection:
            connection.execute(statement, rows)

    def cameras(self) -> dict[str, str]:
        """Return the jurisdiction of every camera that is or was registered."""
        return {row["camera_id"]: row["jurisdiction"] for row in self._rows(sa.select(cameras))}

    def segments_between(
        self, camera_id: str, stream: StreamName, from_us: UtcMicroseconds, to_us: UtcMicroseconds
    ) -> tuple[Segment, ...]:
        """Return the segments that touch a range, by start."""
        asked = {"camera_id": camera_id, "stream": stream, "from_us": from_us, "to_us": to_us}
        rows = self._tuples(_SEGMENTS_BETWEEN, asked | {"earliest_us": from_us - LONGEST_SEGMENT_US})
        return tuple(_segment(row) for row in rows)

    def segment(self, camera_id: str, stream: StreamName, epoch: int, seq0: int) -> Segment | None:
        """Return one segment by identity."""
        query = sa.select(*_SEGMENT).where(
            _of(segments, camera_id, stream), segments.c.epoch == epoch, segments.c.seq0 == seq0
        )
        return next((_segment(row) for row in self._tuples(query)), None)

    def gaps_between(
        self, camera_id: str, stream: StreamName, from_us: UtcMicroseconds, to_us: UtcMicroseconds
    ) -> tuple[GapRow, ...]:
        """Return the gaps that touch a range, by start; open ones too, unless something began before the range."""
        asked = {"camera_id": camera_id, "stream": stream, "from_us": from_us, "to_us": to_us}
        rows = self._tuples(_GAPS_BETWEEN, asked)
        return tuple(GapRow(**dict(zip(_GAP, row, strict=True))) for row in rows)

    def first_us(self, camera_id: str, stream: StreamName) -> UtcMicroseconds | None:
        """Return the first instant of which anything is known of a camera stream: footage or a gap."""
        (row,) = self._tuples(_FIRST, {"camera_id": camera_id, "stream": stream})
        return min((at for at in row if at is not None), default=None)

    def epoch_known(self, at: EpochId) -> EpochKnown:
        """Return what is stored of an epoch."""
        query = (
            sa.select(segments.c.seq0, segments.c.seq1, (segments.c.start_us + segments.c.dur_us).label("end_us"))
            .where(_of(segments, at.camera_id, at.stream), segments.c.epoch == at.epoch)
            .order_by(segments.c.seq0)
        )
        rows = self._rows(query)
        return EpochKnown(
            ranges=tuple((row["seq0"], row["seq1"]) for row in rows), end_us=rows[-1]["end_us"] if rows else None
        )

    def stream_known(self, camera_id: str, stream: StreamName) -> StreamKnown:
        """Return a stream's newest epoch and the end of its footage."""
        newest = sa.select(sa.func.max(segments.c.epoch)).where(_of(segments, camera_id, stream))
        last = sa.select(sa.func.max(segments.c.start_us)).where(_of(segments, camera_id, stream)).scalar_subquery()
        end = sa.select(sa.func.max(segments.c.start_us + segments.c.dur_us)).where(
            _of(segments, camera_id, stream), segments.c.start_us > last - LONGEST_SEGMENT_US
        )
        row = self._rows(sa.select(newest.scalar_subquery().label("epoch"), end.scalar_subquery().label("end")))[0]
        return StreamKnown(newest_epoch=row["epoch"], end_us=row["end"])

    def accesses(self, *, limit: int = 1000) -> tuple[dict[str, Any], ...]:
        """Return the latest rows of the access log, newest first."""
        query = sa.select(access_log).order_by(access_log.c.at_us.desc()).limit(limit)
        return tuple(dict(row) for row in self._rows(query))

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        tables = (segments, gaps, stream_states, access_log, cameras)
        return {
            table.name: cast("int", self._rows(sa.select(sa.func.count().label("rows")).select_from(table))[0]["rows"])
            for table in tables
        }

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
        return [row._mapping for row in self._tuples(query)]  # noqa: SLF001 - SQLAlchemy's documented name

    def _tuples(self, query: sa.Select[Any], values: Mapping[str, Any] | None = None) -> Sequence[sa.Row[Any]]:
        try:
            with self._engine.connect() as connection:
                return connection.execute(query, values).all()
        except sa.exc.OperationalError as error:
            raise RetryLater(f"catalog: {_reason(error)}") from error

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self._writing, self._engine.begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise RetryLater(f"catalog: {_reason(error)}") from error


def sqlite_url(path: Path) -> str:
    """Return the URL of a catalog file."""
    return f"sqlite+pysqlite:///{path}"


def _engine(url: str) -> Engine:
    engine = sa.create_engine(url, connect_args={"timeout": 10, "check_same_thread": False} if "sqlite" in url else {})
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # FULL: an offset is committed after the row, so the row must outlive the power cut that the offset outlives.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "cache_size=-4096"):
        connection.execute(f"PRAGMA {pragma}")


def _of(table: sa.Table, camera_id: str, stream: StreamName) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.camera_id == camera_id, table.c.stream == stream)


def _overlapping(segment: Segment) -> sa.Select[Any]:
    run = segment.run_id
    return sa.select(segments.c.key, segments.c.sha256).where(
        _of(segments, run.camera_id, run.stream),
        segments.c.epoch == run.epoch,
        sa.or_(
            sa.and_(segments.c.seq0 <= segment.seq1, segments.c.seq1 >= segment.seq0),
            segments.c.start_us == segment.start_us,
        ),
    )


def _segment_row(segment: Segment) -> dict[str, Any]:
    row = asdict(segment)
    row.pop("run_id")
    run = segment.run_id
    row |= {"camera_id": run.camera_id, "stream": run.stream, "epoch": run.epoch, "run": run.run}
    row["class"] = row.pop("retention_class")
    row["bytes"] = row.pop("size_bytes")
    return row


def _segment(row: Sequence[Any]) -> Segment:
    """Return a row of `_SEGMENT`; by position, since an hour has 60 of them and a look-up must be quick."""
    return Segment(run_id=RunId(*row[:4]), **dict(zip(_FACTS, row[4:], strict=True)))


_FACTS: Final = tuple(name for name in Segment.__dataclass_fields__ if name != "run_id")
_RENAMED: Final = {"retention_class": "class", "size_bytes": "bytes"}
_SEGMENT: Final = tuple(
    segments.c[_RENAMED.get(name, name)] for name in ("camera_id", "stream", "epoch", "run", *_FACTS)
)


def _asked(table: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.camera_id == sa.bindparam("camera_id"), table.c.stream == sa.bindparam("stream"))


# Built once: to build them anew for each look-up took as long as to run them.
_FROM, _TO = sa.bindparam("from_us", type_=_WHOLE), sa.bindparam("to_us", type_=_WHOLE)
_SEGMENTS_BETWEEN: Final = (
    sa.select(*_SEGMENT)
    .where(_asked(segments), segments.c.start_us < _TO, segments.c.start_us > sa.bindparam("earliest_us"))
    .where(segments.c.start_us + segments.c.dur_us > _FROM)
    .order_by(segments.c.start_us, segments.c.epoch)
)
_GAP: Final = tuple(GapRow.__dataclass_fields__)
_LATER: Final = gaps.alias("later")
# An open gap ends where anything began after it: one that nobody closed must not hide what is unknown days later.
_STILL_OPEN: Final = sa.and_(
    gaps.c.to_us.is_(None),
    ~sa.exists().where(_asked(segments), segments.c.start_us > gaps.c.from_us, segments.c.start_us <= _FROM),
    ~sa.exists().where(_asked(_LATER), _LATER.c.from_us > gaps.c.from_us, _LATER.c.from_us <= _FROM),
)
_GAPS_BETWEEN: Final = (
    sa.select(*(gaps.c[name] for name in _GAP))
    .where(_asked(gaps), gaps.c.from_us < _TO)
    .where(sa.or_(_STILL_OPEN, gaps.c.to_us > _FROM))
    .order_by(gaps.c.from_us)
)
_FIRST: Final = sa.select(
    sa.select(sa.func.min(segments.c.start_us)).where(_asked(segments)).scalar_subquery(),
    sa.select(sa.func.min(gaps.c.from_us)).where(_asked(gaps)).scalar_subquery(),
)


def _gap_row(gap: Gap) -> dict[str, Any]:
    row = msgspec.structs.asdict(gap)
    row["evidence"] = msgspec.json.encode(gap.evidence).decode()
    return row


def _affected(result: CursorResult[Any]) -> int:
    return max(0, result.rowcount)


def _reason(error: sa.exc.SQLAlchemyError) -> str:
    """Return what the driver said, without the statement and its values."""
    return str(error.orig) if isinstance(error, sa.exc.DBAPIError) else type(error).__name__
