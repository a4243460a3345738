"""What a camera session and the rest of ingest say to each other. No I/O, no asyncio.

A session never raises for a camera's fault and never blocks on its sink: every call below is
synchronous and must return at once. Bytes lie in the session's own rotating buffers until the
receiver calls `release`; nothing else is shared.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from services.contracts.fragment import SignatureState
from services.contracts.gap import GapCause
from services.contracts.units import StreamName, UtcMicroseconds


class SessionPhase(StrEnum):
    """The states of cameras.md 3.1 that one session passes through."""

    CONNECTING = "connecting"
    HANDSHAKE = "handshake"
    AWAIT_MEDIA = "await_media"
    RECORDING = "recording"
    STALLED = "stalled"
    AUTH_FAILED = "auth_failed"
    DRAINING = "draining"
    ENDED = "ended"


class EndDetail(StrEnum):
    """Why a session ended, or why seconds are missing inside it: the details of cameras.md 10."""

    REFUSED = "refused"
    TIMEOUT = "timeout"
    AUTH_FAILED = "auth_failed"
    STALL = "stall"
    SILENT = "silent"
    NO_KEYFRAME = "no_keyframe"
    TCP_BACKPRESSURE = "tcp_backpressure"
    RESET = "reset"
    PARAMETER_CHANGE = "parameter_change"
    RTP_DISCONTINUITY = "rtp_discontinuity"
    BAD_BITSTREAM = "bad_bitstream"
    FORWARD = "forward"
    NO_BUFFER = "no_buffer"
    REQUESTED = "requested"


class RetryHint(StrEnum):
    """How soon to come back (cameras.md 5); the supervisor owns the delays."""

    NORMAL = "normal"
    AT_ONCE = "at_once"  # 454: the camera restarted
    SLOTS_FULL = "slots_full"  # 453, 503: start at 10 s
    AUTH = "auth"  # the account may be locked: 60 s, then 300 s
    STALE = "stale"  # an older session still plays: up to 65 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user and a password; never printed."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraTarget:
    """One stream of one camera, as the registry says it. `url` carries no user and no password."""

    camera_id: str
    url: str
    stream: StreamName = "main"
    credentials: Credentials | None = None
    basic_without_tls: bool = False
    tls_sha256: str | None = None  # pinned certificate of an rtsps camera, hex
    tls_verify: bool = True  # False only together with tls_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class InitSegment:
    """`ftyp` + `moov` (<= 4 KiB), equal for equal parameter sets; `codec` is RFC 6381's string."""

    data: bytes = field(repr=False)
    sha256: str
    codec: str
    width: int
    height: int


@dataclass(slots=True, kw_only=True)
class ClosedFragment:
    """A finished fragment: one contiguous `prft` + `moof` + `mdat`.

    `data` stays valid until `release()`, which must be called exactly once when nobody reads it any
    more (acknowledged, spooled or dropped). A fragment longer than 1 MiB holds exactly one access
    unit (`units == 1`); chunking it is the publisher's work (kafka.md 7.3).
    `run` counts timelines inside this session from 0; epoch, seq and the epoch's run are the caller's.
    """

    data: memoryview
    sha256: str
    init: InitSegment
    run: int
    start_us: UtcMicroseconds
    wall_us: int
    media_start_90k: int  # tfdt: since the run's first unit
    media_90k: int
    rtp_start_90k: int
    recv_first_us: UtcMicroseconds
    recv_last_us: UtcMicroseconds
    camera_offset_ms: int | None
    rate_wrong: bool
    keyframe: bool
    broken_refs: bool
    signed_sei: SignatureState
    units: int
    give_back: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def end_us(self) -> UtcMicroseconds:
        return self.start_us + self.wall_us

    def release(self) -> None:
        """Give the buffer back to the session; `data` must not be read afterwards."""
        give_back, self.give_back = self.give_back, None
        if give_back is not None:
            self.data.release()
            give_back()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFragment:
    """The same units cut at <= 0.5 s, as bytes of their own: `moof` + `mdat`, same tfdt timeline.

    `start_us` is the best estimate at that moment: the live path does not wait for the run's anchor.
    """

    data: bytes = field(repr=False)
    init: InitSegment
    run: int
    start_us: UtcMicroseconds
    media_start_90k: int
    media_90k: int
    keyframe: bool
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """A timeline ended; `end_us` is the end of its last fragment. A record of its own on `video`."""

    run: int
    end_us: UtcMicroseconds
    media_end_90k: int
    cause: GapCause
    detail: EndDetail


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketLoss:
    """A hole in the RTP sequence: `count` packets after `first_seq`, before `last_seq`.

    `units` is how many access units were thrown away because of it, as far as is known yet.
    """

    count: int
    first_seq: int
    last_seq: int
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Half-open `[from_us, to_us)` without footage inside a running session."""

    from_us: UtcMicroseconds
    to_us: UtcMicroseconds
    cause: GapCause
    detail: EndDetail
    evidence: dict[str, int | str]


FindingKind = Literal[
    "audio_offered",
    "rate_wrong",
    "clock_step",
    "outlier_timestamp",
    "no_keyframe",
    "annexb_in_rtp",
    "unit_too_large",
    "late_marker",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something an engineer should know; said once per session and kind, then only counted."""

    kind: FindingKind
    facts: dict[str, int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """How a session ended: facts for the gap ledger and for the next attempt.

    `cause` is None only when `request_stop` ended it. `last_end_us` is the end of the last fragment,
    None when nothing was recorded.
    """

    cause: GapCause | None
    detail: EndDetail
    retry: RetryHint
    rtsp_status: int | None
    error_number: int | None
    first_seq: int | None
    last_seq: int | None
    last_unit_us: UtcMicroseconds | None
    last_end_us: UtcMicroseconds | None
    evidence: dict[str, int | str]


class FragmentSink(Protocol):
    """Where a session hands everything over. No call may block, and none may raise."""

    def phase(self, phase: SessionPhase, detail: str) -> None:
        """The session is in another state now."""

    def fragment(self, fragment: ClosedFragment) -> None:
        """Footage, in order; whoever takes it calls `release`."""

    def live(self, fragment: LiveFragment) -> None:
        """Newest units, only while somebody watches (`CameraSession.watch`)."""

    def run_ended(self, end: RunEnd) -> None:
        """No more fragments of this run; the next one starts at or after `end_us`."""

    def loss(self, loss: PacketLoss) -> None:
        """Packets are missing; footage goes on."""

    def hole(self, hole: Hole) -> None:
        """Seconds are missing inside the session (cameras.md 10's threshold is already applied)."""

    def finding(self, finding: Finding) -> None:
        """Something about this camera is not as it should be."""
