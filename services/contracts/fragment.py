"""The one list of `video` headers: a fragment's facts, its init, and the end of a run.

The value of a fragment is the fMP4 bytes (`moof` + `mdat`) and nothing else; the record key is the
camera id. A fragment above 1 MiB, which is one large access unit, goes as chunks: consecutive records,
each with all of its headers and the part of it that it holds (docs/decisions/0004).
The end of a run carries an empty value, no init, and takes no seq of its own.
Source: kafka.md 6.1, cameras.md 7.14.
"""

from typing import Any, ClassVar, Final, Literal, get_args

from msgspec import Struct

from services.contracts.envelope import Headers, rfc3339
from services.contracts.epoch import FragmentId, RunId, chunk_event_id, end_event_id, fragment_event_id
from services.contracts.errors import MalformedMessage, UnknownSchema
from services.contracts.units import StreamName, UtcMicroseconds

FRAGMENT_BYTES_MAX: Final = 1024 * 1024
"""Of one record: a longer fragment is cut into chunks of this."""
CHUNKED_BYTES_MAX: Final = 12 * 1024 * 1024
"""Of all chunks of a fragment; the longest unit that ingest makes is below it."""
INIT_BYTES_MAX: Final = 4 * 1024

ClockState = Literal["synced", "unsynced", "rate_wrong"]
SignatureState = Literal["absent", "present", "valid", "broken"]


class Chunk(Struct, frozen=True, kw_only=True):
    """What part of a fragment a record holds: its bytes from `at_bytes` on, of `fragment_bytes` in all."""

    at_bytes: int
    fragment_bytes: int


class Fragment(Struct, frozen=True, kw_only=True):
    """Everything known of one fragment but its bytes.

    `start_us` and `wall_us` are the wall time it covers (half-open); `media_90k` is its duration on
    the camera's own clock and `rtp_start_90k` the unwrapped RTP time of its first unit. `sha256` is that
    of the whole, also where the record holds one `chunk` of it.
    """

    TYPE: ClassVar[str] = "kr.safealley.video.fragment.v1"

    camera_id: str
    stream: StreamName
    epoch: int
    run: int
    seq: int
    start_us: UtcMicroseconds
    wall_us: int
    media_90k: int
    rtp_start_90k: int
    recv_first_us: UtcMicroseconds
    recv_last_us: UtcMicroseconds
    clock_offset_us: int | None
    camera_offset_ms: int | None
    clock: ClockState
    keyframe: bool
    broken_refs: bool
    codec: str
    retention_class: str
    init_sha256: str
    sha256: str
    signed_sei: SignatureState
    init: bytes
    chunk: Chunk | None = None

    @property
    def id(self) -> FragmentId:
        return FragmentId(self.camera_id, self.stream, self.epoch, self.seq)

    @property
    def run_id(self) -> RunId:
        return RunId(self.camera_id, self.stream, self.epoch, self.run)

    @property
    def end_us(self) -> UtcMicroseconds:
        return self.start_us + self.wall_us

    def to_headers(self) -> Headers:
        """Return the record headers, `init` last. Cost: about 10 us, once per fragment."""
        facts = (
            ("ce_stream", self.stream),
            ("ce_epoch", self.epoch),
            ("ce_run", self.run),
            ("ce_sequence", f"{self.seq:010d}"),
            ("ce_startus", self.start_us),
            ("ce_wallus", self.wall_us),
            ("ce_media90k", self.media_90k),
            ("ce_rtpstart", self.rtp_start_90k),
            ("ce_recvfirstus", self.recv_first_us),
            ("ce_recvlastus", self.recv_last_us),
            ("ce_clock", self.clock),
            ("ce_keyframe", _flag(self.keyframe)),
            ("ce_brokenrefs", _flag(self.broken_refs)),
            ("ce_codec", self.codec),
            ("ce_class", self.retention_class),
            ("ce_initsha256", self.init_sha256),
            ("ce_sha256", self.sha256),
            ("ce_signedsei", self.signed_sei),
        )
        chunk = self.chunk
        event_id = fragment_event_id(self.id) if chunk is None else chunk_event_id(self.id, chunk.at_bytes)
        headers = [*_common(self.TYPE, event_id, self.camera_id, rfc3339(self.recv_first_us))]
        headers += [(name, str(value).encode()) for name, value in facts]
        if self.clock_offset_us is not None:
            headers.append(("ce_clockoffsetus", str(self.clock_offset_us).encode()))
        if self.camera_offset_ms is not None:
            headers.append(("ce_cameraoffsetms", str(self.camera_offset_ms).encode()))
        if chunk is not None:
            headers.append(("ce_chunkat", str(chunk.at_bytes).encode()))
            headers.append(("ce_fragmentlength", str(chunk.fragment_bytes).encode()))
        headers += [("content-type", b"video/mp4"), ("init", self.init)]
        return tuple(headers)


class VideoEnd(Struct, frozen=True, kw_only=True):
    """A run has ended; `seq` is the last fragment's, `end_us` its end."""

    TYPE: ClassVar[str] = "kr.safealley.video.end.v1"

    camera_id: str
    stream: StreamName
    epoch: int
    run: int
    seq: int
    end_us: UtcMicroseconds

    @property
    def run_id(self) -> RunId:
        return RunId(self.camera_id, self.stream, self.epoch, self.run)

    def to_headers(self) -> Headers:
        """Return the record headers; the value is empty, not null."""
        facts = (
            ("ce_stream", self.stream),
            ("ce_epoch", self.epoch),
            ("ce_run", self.run),
            ("ce_sequence", f"{self.seq:010d}"),
            ("ce_endus", self.end_us),
        )
        headers = [*_common(self.TYPE, end_event_id(self.run_id), self.camera_id, rfc3339(self.end_us))]
        headers += [(name, str(value).encode()) for name, value in facts]
        headers.append(("content-type", b"video/mp4"))
        return tuple(headers)


def read_video_headers(headers: Headers) -> Fragment | VideoEnd:
    """Read the headers of a `video` record.

    Raises:
        UnknownSchema: another type, or a later version.
        MalformedMessage: a header is missing, twice there, or not what its name says.
    """
    raw: dict[str, bytes] = dict(headers)
    if len(raw) != len(headers):
        raise MalformedMessage("a header stands twice")
    init = raw.pop("init", b"")
    try:
        texts = {name: value.decode() for name, value in raw.items()}
    except UnicodeDecodeError as error:
        raise MalformedMessage("a header is not UTF-8") from error
    if texts.get("ce_specversion") != "1.0":
        raise MalformedMessage(f"ce_specversion is {texts.get('ce_specversion')!r}, not '1.0'")
    type_name = texts.get("ce_type", "")
    reader = _Reader(texts)
    if type_name == VideoEnd.TYPE:
        return VideoEnd(
            camera_id=reader.text("ce_subject"),
            stream=reader.one_of("ce_stream", StreamName),
            epoch=reader.whole("ce_epoch"),
            run=reader.whole("ce_run"),
            seq=reader.whole("ce_sequence"),
            end_us=reader.whole("ce_endus"),
        )
    if type_name != Fragment.TYPE:
        raise UnknownSchema(type_name)
    if not init:
        raise MalformedMessage("header init is missing")
    return Fragment(
        camera_id=reader.text("ce_subject"),
        stream=reader.one_of("ce_stream", StreamName),
        epoch=reader.whole("ce_epoch"),
        run=reader.whole("ce_run"),
        seq=reader.whole("ce_sequence"),
        start_us=reader.whole("ce_startus"),
        wall_us=reader.whole("ce_wallus"),
        media_90k=reader.whole("ce_media90k"),
        rtp_start_90k=reader.signed("ce_rtpstart"),
        recv_first_us=reader.whole("ce_recvfirstus"),
        recv_last_us=reader.whole("ce_recvlastus"),
        clock_offset_us=reader.signed("ce_clockoffsetus") if "ce_clockoffsetus" in texts else None,
        camera_offset_ms=reader.signed("ce_cameraoffsetms") if "ce_cameraoffsetms" in texts else None,
        clock=reader.one_of("ce_clock", ClockState),
        keyframe=reader.flag("ce_keyframe"),
        broken_refs=reader.flag("ce_brokenrefs"),
        codec=reader.text("ce_codec"),
        retention_class=reader.text("ce_class"),
        init_sha256=reader.text("ce_initsha256"),
        sha256=reader.text("ce_sha256"),
        signed_sei=reader.one_of("ce_signedsei", SignatureState),
        init=init,
        chunk=_read_chunk(reader) if "ce_chunkat" in texts or "ce_fragmentlength" in texts else None,
    )


def _read_chunk(reader: "_Reader") -> Chunk:
    chunk = Chunk(at_bytes=reader.whole("ce_chunkat"), fragment_bytes=reader.whole("ce_fragmentlength"))
    if chunk.fragment_bytes > CHUNKED_BYTES_MAX:
        raise MalformedMessage(f"header ce_fragmentlength is above {CHUNKED_BYTES_MAX}")
    if chunk.at_bytes >= chunk.fragment_bytes:
        raise MalformedMessage("header ce_chunkat is not below ce_fragmentlength")
    return chunk


class _Reader:
    """Named look-ups over decoded headers, each failing with the header's name."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def text(self, name: str) -> str:
        text = self._texts.get(name)
        if not text:
            raise MalformedMessage(f"header {name} is missing")
        return text

    def signed(self, name: str) -> int:
        text = self.text(name)
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
            raise MalformedMessage(f"header {name} is not a whole number")
        return int(text)

    def whole(self, name: str) -> int:
        number = self.signed(name)
        if number < 0:
            raise MalformedMessage(f"header {name} is negative")
        return number

    def flag(self, name: str) -> bool:
        text = self.text(name)
        if text not in ("true", "false"):
            raise MalformedMessage(f"header {name} is neither true nor false")
        return text == "true"

    def one_of(self, name: str, allowed: object) -> Any:
        text = self.text(name)
        if text not in get_args(allowed):
            raise MalformedMessage(f"header {name} is {text!r}, not one of {', '.join(get_args(allowed))}")
        return text


def _common(type_name: str, event_id: str, camera_id: str, time: str) -> Headers:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", f"/cameras/{camera_id}".encode()),
        ("ce_type", type_name.encode()),
        ("ce_time", time.encode()),
        ("ce_subject", camera_id.encode()),
        ("ce_partitionkey", camera_id.encode()),
    )


def _flag(value: bool) -> str:
    return "true" if value else "false"
