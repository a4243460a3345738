"""Presses that Kafka cannot take, on a file allocated at start: a full disk cannot refuse one.

The file is a line of records, written from its beginning and each fsynced before it is acknowledged.
Once all are sent, the first record's mark is wiped and the line begins anew under another random
generation, so that old records behind the new ones are recognised as old. A start resends all that it
finds; consumers drop duplicates by source + id. What cannot be read is damage where a record of the same
line stands behind it, and a torn tail, never acknowledged, where none does.

One thread at a time: the publisher calls it through an executor with one worker.
"""

import fcntl
import os
import secrets
import zlib
from collections import deque
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

import msgspec
import structlog

from services.runtime.errors import RetryLater, SettingsError
from services.runtime.kafka_port import Outgoing

log = structlog.get_logger()

# mark, generation, length of the payload, CRC-32 of the payload, CRC-32 of this head before it
_HEAD: Final = Struct("<4s8sIII")
_MARK: Final = b"PRS1"
_BLANK: Final = bytes(_HEAD.size)
_FILL: Final = bytes(64 * 1024)


class SpoolFull(RetryLater):
    """No room, or the disk refused: the press is not acknowledged, the device sends it again."""


class Statistics(NamedTuple):
    """What is waiting, how much room there is, and in how many places of the line presses were lost."""

    waiting: int
    used_bytes: int
    capacity_bytes: int
    corrupt: int
    wipes_failed: int


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    key: str
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int
    partition: int | None


class _Head(NamedTuple):
    generation: bytes
    length: int
    data_crc: int


class AlarmSpool:
    """Open with `open`; it holds the file's lock until `close`."""

    def __init__(self, fd: int, capacity_bytes: int) -> None:
        self._fd = fd
        self._capacity_bytes = capacity_bytes
        self._end = 0
        self._generation = b""
        self._waiting: deque[Outgoing] = deque()
        self._corrupt = 0
        self._wipes_failed = 0

    @classmethod
    def open(cls, path: Path, *, capacity_bytes: int) -> "AlarmSpool":
        """Take the file, allocate it whole, and read what an earlier process left.

        Raises:
            SettingsError: another process has it, or the disk has no room for it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(fd, path)
            _allocate(fd, path, capacity_bytes)
            spool = cls(fd, max(capacity_bytes, os.fstat(fd).st_size))
            spool._scan()
        except BaseException:
            os.close(fd)
            raise
        return spool

    def close(self) -> None:
        os.close(self._fd)

    def append(self, record: Outgoing) -> None:
        """Keep a record; it is on the disk when this returns.

        Raises:
            SpoolFull: it is not kept.
        """
        data = msgspec.msgpack.encode(_kept(record))
        generation = self._generation or secrets.token_bytes(8)
        framed = _head(generation, data) + data
        if self._end + len(framed) > self._capacity_bytes:
            raise SpoolFull(f"the press spool is full: {len(self._waiting)} records wait for Kafka")
        # The next head is wiped in the same write, so that no record of an older line follows this one.
        tail = bytes(min(_HEAD.size, self._capacity_bytes - self._end - len(framed)))
        try:
            _write_all(self._fd, framed + tail, self._end)
            os.fdatasync(self._fd)
        except OSError as error:
            raise SpoolFull(f"the press spool cannot be written: {error.strerror}") from error
        self._generation = generation
        self._end += len(framed)
        self._waiting.append(record)

    def first(self) -> Outgoing | None:
        """Return the oldest record that was not sent."""
        return self._waiting[0] if self._waiting else None

    def sent(self) -> None:
        """Forget the oldest record; with the last one the file begins anew."""
        self._waiting.popleft()
        if self._waiting:
            return
        self._end = 0
        self._generation = b""
        try:
            _write_all(self._fd, _BLANK, 0)
            os.fdatasync(self._fd)
        except OSError:
            # The old line may then be sent once more at the next start: duplicates, which consumers drop.
            self._wipes_failed += 1

    def statistics(self) -> Statistics:
        return Statistics(len(self._waiting), self._end, self._capacity_bytes, self._corrupt, self._wipes_failed)

    def _scan(self) -> None:
        self._generation = self._first_generation()
        while self._generation:
            data = self._record_at(self._end)
            if data is not None:
                self._waiting.append(_outgoing(data))
                self._end += _HEAD.size + len(data)
                continue
            behind = self._next_head(self._end + 1)
            if behind is None:
                self._tell_torn_tail()
                break
            self._corrupt += 1
            log.error("spool.presses_lost", cause="damaged on the disk", at_bytes=self._end, bytes=behind - self._end)
            self._end = behind
        if not self._waiting:
            self._end, self._generation = 0, b""

    def _first_generation(self) -> bytes:
        """Return the generation of the line; nothing where the first mark is wiped: all was sent.

        A damaged first head may have lost its generation. A head right behind the record is then of the
        same line: each write wipes the place behind it.
        """
        _, generation, length, _, _ = _HEAD.unpack(self._raw_head(0))
        if self._head_at(0) is None and (behind := self._head_at(_HEAD.size + length)) is not None:
            generation = behind.generation
        return b"" if self._raw_head(0) == _BLANK else generation

    def _next_head(self, at: int) -> int | None:
        """Return where the next head of this line stands. No payload holds one: it knows no generation."""
        sought = _MARK + self._generation
        while part := os.pread(self._fd, len(_FILL), at):
            found = part.find(sought)
            if found >= 0 and self._head_at(at + found) is not None:
                return at + found
            at += found + 1 if found >= 0 else max(1, len(part) - len(sought) + 1)
        return None

    def _tell_torn_tail(self) -> None:
        if self._raw_head(self._end) != _BLANK:
            log.warning("spool.torn_tail", at_bytes=self._end)

    def _record_at(self, at: int) -> bytes | None:
        """Return the payload of the whole record of this line there."""
        head = self._head_at(at)
        if head is None or head.generation != self._generation:
            return None
        data = os.pread(self._fd, head.length, at + _HEAD.size)
        return data if zlib.crc32(data) == head.data_crc else None

    def _head_at(self, at: int) -> _Head | None:
        raw = self._raw_head(at)
        mark, generation, length, data_crc, head_crc = _HEAD.unpack(raw)
        if mark != _MARK or zlib.crc32(raw[:-4]) != head_crc or at + _HEAD.size + length > self._capacity_bytes:
            return None
        return _Head(generation, length, data_crc)

    def _raw_head(self, at: int) -> bytes:
        return os.pread(self._fd, _HEAD.size, at).ljust(_HEAD.size, b"\0")


def _head(generation: bytes, data: bytes) -> bytes:
    without = _HEAD.pack(_MARK, generation, len(data), zlib.crc32(data), 0)[:-4]
    return without + zlib.crc32(without).to_bytes(4, "little")


def _kept(record: Outgoing) -> _Kept:
    value = None if record.value is None else bytes(record.value)
    return _Kept(record.topic, record.key, value, record.headers, record.timestamp_ms, record.partition)


def _outgoing(data: bytes) -> Outgoing:
    kept = msgspec.msgpack.decode(data, type=_Kept)
    return Outgoing(
        topic=kept.topic,
        key=kept.key,
        value=kept.value,
        headers=kept.headers,
        timestamp_ms=kept.timestamp_ms,
        partition=kept.partition,
    )


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(f"{path}: another ingest holds the press spool: stop it, or set another data_dir") from None


def _allocate(fd: int, path: Path, capacity_bytes: int) -> None:
    """Write the file full once: blocks that were only reserved can still need room when they are written."""
    at = os.fstat(fd).st_size
    try:
        while at < capacity_bytes:
            part = _FILL[: capacity_bytes - at]
            _write_all(fd, part, at)
            at += len(part)
        os.fsync(fd)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise SettingsError(
            f"{path}: no room for the press spool of {capacity_bytes} bytes: {error.strerror}; free some disk"
        ) from error
