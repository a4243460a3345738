"""How one box shares out a disk: stated before start, and kept. Pure, but for `measure` and the plan's file.

The broker must never meet a full disk: it would stop, and the alarms with it. So its topics get
fixed sizes, a reserve is kept free of video, and everything between is footage. State alone, in compacted
topics, has no fixed size: it is kept small, and the reserve is there for it.

The reserve is max(2 GiB, 5 % of the file system), but on a disk below 3 GiB two thirds of it, so
that a small disk still records something.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from services.contracts.topics import DEAD_LETTER_PARTITIONS, MIB, ONE_BOX_PARTITIONS, TOPICS
from services.onebox.durable import write_atomically
from services.runtime.errors import SettingsError

GIB: Final = 1024 * MIB
SEGMENT_BYTES_MAX: Final = 16 * MIB
VIDEO_SEGMENT_BYTES_MIN: Final = 4 * MIB
"""Twice the largest record of `video`."""
RECORDS_SEGMENT_BYTES_MIN: Final = MIB
"""Kafka takes no less."""
VIDEO_SHARE: Final = 0.10
VIDEO_BYTES_MAX: Final = 8 * GIB
RECORDS_SHARE: Final = 0.10
RECORDS_BYTES_MAX: Final = 4 * GIB
DEAD_LETTER_BYTES: Final = MIB
BROKER_OWN_BYTES: Final = 96 * MIB
"""Offsets, transactions and the cluster's own log: two segments of 16 MiB each."""
FREE_BYTES_MIN: Final = GIB
SPOOL_BYTES: Final = 16 * MIB
"""Ingest's press spool, allocated at its start."""
LOGS_BYTES: Final = 5 * 8 * MIB
"""Output of five processes, each bounded (processes.py)."""

_VIDEO_PARTITIONS: Final = ONE_BOX_PARTITIONS
_RECORD_PARTITIONS: Final = ONE_BOX_PARTITIONS * (len(TOPICS) - 1)
_STATE_PARTITIONS: Final = ONE_BOX_PARTITIONS * sum(topic.compacted for topic in TOPICS)
_DEAD_LETTER_PARTITIONS: Final = DEAD_LETTER_PARTITIONS * len(TOPICS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A file system as the kernel counts it; `free_bytes` is what an ordinary user may still write."""

    size_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerShare:
    """Sizes of the broker's topics. The active segment is never trimmed: it comes on top of what is kept."""

    video_segment_bytes: int
    video_partition_bytes: int
    records_segment_bytes: int
    records_partition_bytes: int

    @property
    def video_bytes_max(self) -> int:
        """Return what `video` takes at most."""
        return _VIDEO_PARTITIONS * (self.video_partition_bytes + self.video_segment_bytes)

    @property
    def records_bytes_max(self) -> int:
        """Return what all else with a limit takes at most, if every partition were full; state has none."""
        records = (_RECORD_PARTITIONS - _STATE_PARTITIONS) * self._records_partition_bytes_max
        return records + _DEAD_LETTER_PARTITIONS * 2 * DEAD_LETTER_BYTES + BROKER_OWN_BYTES

    @property
    def state_bytes_planned(self) -> int:
        """Return the share of compacted topics, for which Kafka knows no limit in bytes (docs/decisions/0007)."""
        return _STATE_PARTITIONS * self._records_partition_bytes_max

    @property
    def _records_partition_bytes_max(self) -> int:
        return self.records_partition_bytes + self.records_segment_bytes


def measure(directory: Path) -> Disk:
    """Return size and free bytes of the file system below a directory that may not exist yet."""
    existing = next(path for path in (directory.resolve(), *directory.resolve().parents) if path.exists())
    figures = os.statvfs(existing)
    return Disk(size_bytes=figures.f_blocks * figures.f_frsize, free_bytes=figures.f_bavail * figures.f_frsize)


def reserve_bytes(size_bytes: int) -> int:
    """Return what stays free of video."""
    return min(max(2 * GIB, size_bytes // 20), size_bytes * 2 // 3)


def broker_share(free_bytes: int) -> BrokerShare:
    """Return sizes with which `video` takes at most a tenth of the free disk, and all records another.

    Below the smallest segments that Kafka takes, 64 MiB of video and 360 MiB of records, the shares
    are larger than that: `first_plan` does not let it begin.
    """
    video = min(int(free_bytes * VIDEO_SHARE), VIDEO_BYTES_MAX) // _VIDEO_PARTITIONS
    video_segment = _segment_bytes(video, VIDEO_SEGMENT_BYTES_MIN)
    records = min(int(free_bytes * RECORDS_SHARE), RECORDS_BYTES_MAX) // _RECORD_PARTITIONS
    records_segment = _segment_bytes(records, RECORDS_SEGMENT_BYTES_MIN)
    return BrokerShare(
        video_segment_bytes=video_segment,
        video_partition_bytes=max(video - video_segment, video_segment),
        records_segment_bytes=records_segment,
        records_partition_bytes=max(records - records_segment, records_segment),
    )


def _segment_bytes(partition_bytes: int, segment_bytes_min: int) -> int:
    """Return a third of a partition in whole MiB, so that two closed segments stand beside the active one."""
    return max(segment_bytes_min, min(SEGMENT_BYTES_MAX, partition_bytes // 3 // MIB * MIB))


def first_plan(file: Path, disk: Disk) -> Disk:
    """Return the disk as it was when the topics were made, or as it is if they are not yet.

    Later starts are not refused for want of room: bells need little, and video yields by its reserve.

    Raises:
        SettingsError: a first start on a disk where the broker could not even keep its records.
    """
    if file.exists():
        try:
            return msgspec.json.decode(file.read_bytes(), type=Disk)
        except msgspec.DecodeError:
            return disk  # the topics are there: only the statement is made of it
    if disk.free_bytes < FREE_BYTES_MIN:
        raise SettingsError(
            f"only {_gib(disk.free_bytes)} are free and {_gib(FREE_BYTES_MIN)} are needed to begin; "
            f"cure: free some, or give another directory with --data"
        )
    return disk


def keep_plan(file: Path, planned: Disk) -> None:
    """Write by which disk the topics were made, once they are."""
    if not file.exists():
        write_atomically(file, msgspec.json.encode(planned))


def warning(disk: Disk) -> str | None:
    """Return what a later start says of a disk on which no first one would begin."""
    if disk.free_bytes >= FREE_BYTES_MIN:
        return None
    return (
        f"only {_gib(disk.free_bytes)} of the disk are free: bells and alarms go on, video yields to them; "
        f"cure: free some, {_gib(FREE_BYTES_MIN)} or more"
    )


def statement(disk: Disk, planned: Disk, *, with_kafka: bool) -> str:
    """Return the sentence that `up` says before it starts."""
    share = broker_share(planned.free_bytes)
    kept = reserve_bytes(disk.size_bytes)
    kafka = (
        f"Kafka at most {_gib(share.video_bytes_max + share.records_bytes_max)} "
        f"(video {_gib(share.video_bytes_max)}, records {_gib(share.records_bytes_max)}) and, planned with "
        f"{_gib(share.state_bytes_planned)} but without a limit, the state of devices, cameras and alerts; "
        if with_kafka
        else ""
    )
    return (
        f"disk: {_gib(disk.free_bytes)} of {_gib(disk.size_bytes)} free; {kafka}"
        f"presses while Kafka is away {_gib(SPOOL_BYTES)}, logs {_gib(LOGS_BYTES)}, "
        f"footage the rest until {_gib(kept)} are left; then video stops with a gap, and alarms go on"
    )


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"
