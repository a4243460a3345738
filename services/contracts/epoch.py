"""Identity: epoch, run and seq. Never a Kafka offset, since a log can go back (design.md, Topics).

A fragment is (camera, stream, epoch, seq). `run` counts unbroken RTP timelines inside an epoch;
`seq` goes on across the runs of one epoch.
"""

from typing import NamedTuple

from services.contracts.units import StreamName, UtcMicroseconds


class FragmentId(NamedTuple):
    """The name of one fragment, and what duplicates are recognised by."""

    camera_id: str
    stream: StreamName
    epoch: int
    seq: int


class RunId(NamedTuple):
    """One unbroken RTP timeline of one camera stream; orders as (camera, stream, epoch, run)."""

    camera_id: str
    stream: StreamName
    epoch: int
    run: int


def next_epoch(now_us: UtcMicroseconds, highest_claimed: int | None) -> int:
    """Return the epoch of a new claim: the time, or one above the highest claim of the key.

    A later claim is so always higher, also after a power cut, a wiped directory or on another
    cluster.
    """
    return now_us if highest_claimed is None else max(now_us, highest_claimed + 1)


def fragment_event_id(fragment: FragmentId) -> str:
    """Return the CloudEvents id of a fragment."""
    return f"{fragment.camera_id}/{fragment.stream}/{fragment.epoch}/{fragment.seq}"


def chunk_event_id(fragment: FragmentId, at_bytes: int) -> str:
    """Return the CloudEvents id of a chunk of a fragment."""
    return f"{fragment_event_id(fragment)}/{at_bytes}"


def end_event_id(run: RunId) -> str:
    """Return the CloudEvents id of a run's end record."""
    return f"{run.camera_id}/{run.stream}/{run.epoch}/end-{run.run}"
