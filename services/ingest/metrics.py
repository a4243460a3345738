"""Every series ingest exports, with its help. Per camera there are eight (cameras.md 17); the rest are sums.

`forget_camera` removes a camera's series when it leaves. No URL and no address is ever a label.
"""

from functools import cached_property
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.runtime.metrics import REGISTRY

_PREFIX: Final = "safealley_ingest_"
_CAMERA: Final = ("camera",)


def _counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
    return Counter(_PREFIX + name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
    return Gauge(_PREFIX + name, text, labels, registry=REGISTRY)


# Per camera: at most eight series.
SESSION_STATE = _gauge(
    "session_state", "0 connecting, 1 recording, 2 stalled, 3 offline, 4 disabled", _CAMERA
)  # fmt: skip
ACCESS_UNITS_LOST = _counter("access_units_lost_total", "Access units dropped as damaged", _CAMERA)
LAST_FRAME = _gauge("last_frame_timestamp_seconds", "Wall time of the newest access unit", _CAMERA)
RECORDED_SECONDS = _counter("recorded_seconds_total", "Seconds that Kafka acknowledged", _CAMERA)
EXPECTED_SECONDS = _counter("expected_seconds_total", "Seconds that were to be recorded", _CAMERA)
CAMERA_CLOCK_OFFSET = _gauge("camera_clock_offset_seconds", "Camera clock minus ours, low-passed", _CAMERA)
GAP_SECONDS = _counter("gap_seconds_total", "Seconds without footage, by who is to blame", ("camera", "side"))

# session
CONNECTS = _counter("session_connects_total", "Sessions tried, by what became of them", ("result",))
RECONNECTS = _counter("session_reconnects_total", "Sessions that ended, by cause", ("cause",))
HANDSHAKE_SECONDS = Histogram(
    _PREFIX + "session_handshake_seconds",
    "Session begun to first key picture",
    registry=REGISTRY,
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30),
)

# publisher
FRAGMENTS = _counter("publisher_fragments_total", "Fragments by result: acked, resent, dropped", ("result",))
FRAGMENTS_ACKED = FRAGMENTS.labels("acked")
FRAGMENT_BYTES = _counter("publisher_bytes_total", "Fragment bytes that Kafka acknowledged")
FRAGMENT_ACK_SECONDS = Histogram(
    _PREFIX + "publisher_ack_seconds",
    "Fragment handed over to acknowledged",
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60),
)
BUFFERED_BYTES = _gauge("publisher_buffered_bytes", "Fragment bytes that wait for Kafka")
BUFFERED_FRAGMENTS = _gauge("publisher_buffered_fragments", "Fragments that wait for Kafka")
DROPPED_BYTES = _counter("publisher_dropped_bytes_total", "Fragment bytes given up, each with a gap")
RECORDS_BUFFERED = _gauge("publisher_records_buffered", "Gap and state records that wait for Kafka")
RECORDS_DROPPED = _counter("publisher_records_dropped_total", "Gap and state records given up: must stay 0")

# gap ledger
GAP_CAUSE_SECONDS = _counter("gap_cause_seconds_total", "Seconds without footage by cause", ("cause",))

# ownership and registry
OWNED_CAMERAS = _gauge("owned_cameras", "Cameras this process records")
LOST_CAMERAS = _gauge("lost_cameras", "Cameras another process took over from this one")
UNPLACED_CAMERAS = _gauge("unplaced_cameras", "Cameras refused because this process is full")
CLAIMS = _counter("ownership_claims_total", "Claims written, by result", ("result",))

# live and stills
LIVE_SOCKETS = _gauge("live_sockets", "Live sockets open")
LIVE_BYTES = _gauge("live_bytes", "Bytes that wait for live sockets")
LIVE_DROPPED = _counter("live_dropped_total", "Live fragments left out for a slow window")
STILLS = _counter("stills_total", "Stills by result", ("result",))

# device door
DOOR_REQUESTS = _counter("webhook_requests_total", "Posts to the device door by result", ("result",))
DOOR_REPEATS = _counter("webhook_repeats_total", "Posts that repeated an event")
DOOR_IDS_REUSED = _counter("webhook_ids_reused_total", "Events under an id of other words: kept under one of their own")
DOOR_UNKEPT = _counter("webhook_unkept_total", "Events that neither Kafka nor the spool took: answered 503")
DOOR_SECONDS = Histogram(
    _PREFIX + "webhook_seconds",
    "Post to acknowledgement",
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.015, 0.03, 0.06, 0.25, 1, 2.5),
)
ALARMS_PUBLISHED = _counter("alarms_published_total", "Alarm records by way", ("result",))
ALARMS_LATE_ANSWERS = _counter("alarms_late_answers_total", "Answers of Kafka after the door's limit", ("result",))
ALARMS_CLOCK_AHEAD = _counter("alarms_clock_ahead_total", "Records refused because this host's clock runs ahead")
ALARM_SPOOL_BYTES = _gauge("alarms_spool_bytes", "Bytes used on the press spool")
ALARM_SPOOL_LOST = _counter("alarms_spool_lost_total", "Places of the press spool damaged on the disk: presses lost")
ALARM_SPOOL_RECORDS = _gauge("alarms_spool_records", "Records on the press spool that Kafka has not yet")

# disk watch
DISK_FREE_BYTES = _gauge("disk_free_bytes", "Free bytes for us where data_dir stands")
DISK_FULL = _gauge("disk_full", "1 while video is stopped to keep the reserve")


class CameraSeries:
    """One camera's series that move with every fragment, looked up once. A look-up costs as much as the sum."""

    def __init__(self, camera_id: str) -> None:
        self._camera_id = camera_id

    @cached_property
    def last_frame(self) -> Gauge:
        return LAST_FRAME.labels(self._camera_id)

    @cached_property
    def clock_offset(self) -> Gauge:
        return CAMERA_CLOCK_OFFSET.labels(self._camera_id)

    @cached_property
    def recorded_seconds(self) -> Counter:
        return RECORDED_SECONDS.labels(self._camera_id)

    @cached_property
    def expected_seconds(self) -> Counter:
        return EXPECTED_SECONDS.labels(self._camera_id)


def forget_camera(camera_id: str) -> None:
    """Remove the series of a camera that is no longer ours."""
    for series in (
        SESSION_STATE, ACCESS_UNITS_LOST, LAST_FRAME, RECORDED_SECONDS, EXPECTED_SECONDS, CAMERA_CLOCK_OFFSET,
    ):  # fmt: skip
        _remove(series, camera_id)
    for side in ("ours", "device"):
        _remove(GAP_SECONDS, camera_id, side)


def _remove(series: Counter | Gauge, *labels: str) -> None:
    try:
        series.remove(*labels)
    except KeyError:
        return  # it never had a value
