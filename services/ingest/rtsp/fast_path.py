"""Interleaved bytes to access units: one loop for plain packets, a strict slower path for the rest.

Wake-ups and packets are what a camera costs, so the loop makes no object and writes no log per packet
(hotpath.md). State lives in attributes between wake-ups and in local names inside `feed`. No I/O.
"""

from collections import Counter
from dataclasses import dataclass
from struct import Struct
from types import ModuleType
from typing import Final, Protocol

from services.contracts.gap import GapCause
from services.ingest.fragmenter import BROKEN, DATA_AT, KEY, SIGNED, Fragmenter, Missing
from services.ingest.media_types import EndDetail, Finding, FragmentSink, InitSegment, PacketLoss
from services.ingest.rtsp import rtp
from services.ingest.rtsp.depacketiser import h264, h265
from services.ingest.rtsp.depacketiser.parameters import ParameterSets
from services.ingest.rtsp.depacketiser.steps import END, MIDDLE, WHOLE, Step
from services.ingest.rtsp.errors import BitstreamError, MessageError, PacketError
from services.ingest.rtsp.framing import STRAY_BYTES_MAX, Found, next_piece
from services.ingest.rtsp.sdp import VideoTrack
from services.ingest.rtsp.timeline import Timeline

SLACK_BYTES: Final = 32  # readable behind the data, so that a packet's head needs no bounds check
ROOM_BYTES: Final = 4096  # for start codes that become lengths
UNIT_BYTES_MAX: Final = 8 * 1024 * 1024
UNIT_NALS_MAX: Final = 128
SCANNED_SLICES: Final = 100  # a camera that puts start codes into RTP does so from the start
_HEAD: Final = Struct(">BBHBBHIIBBB")
_LENGTH: Final = Struct(">I")
_START_CODE: Final = b"\x00\x00\x01"
# ONVIF Media Signing; Axis Signed Video (cameras.md 8.6).
_SIGNATURES: Final = (bytes.fromhex("005bc93f2d715e95ada4796f90877a6f"), b"Signed Video...0")
_NONE: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFault:
    """The stream cannot go on in this session."""

    cause: GapCause
    detail: EndDetail
    evidence: dict[str, int | str]


class TextReceiver(Protocol):
    """Who reads RTSP messages that stand between interleaved frames."""

    def on_text(self, message: bytes) -> None:
        """A whole message."""


class MediaParser:
    """One track of one session. `feed` is called for every read; nothing else touches the buffer."""

    def __init__(self, receiver: TextReceiver, sink: FragmentSink, *, keep_gop: bool = True) -> None:
        self.playing = False
        self.started = False
        self.fault: StreamFault | None = None
        self.rejected: Counter[str] = Counter()
        self.units = 0
        self.units_lost = 0
        self.units_skipped = 0
        self.packets = 0
        self.packets_lost = 0
        self.stray_bytes = 0
        self.foreign = 0
        self.last_unit_us: int | None = None
        self.last_key_us: int | None = None
        self.longest_gop_us = 0
        self.first_seq: int | None = None
        self.highest_seq = 0
        self.ssrc: int | None = None
        self.report: rtp.SenderReport | None = None
        self.report_us = 0
        self.fragmenter: Fragmenter | None = None
        self._receiver = receiver
        self._sink = sink
        self._keep_gop = keep_gop
        self._codec: ModuleType = h264
        self._hevc = False
        self._sets = ParameterSets("h264", ())
        self._frame_rate: float | None = None
        self._video = _NONE
        self._control = _NONE
        self._payload_type = _NONE
        self._stray = 0
        self._reset()

    def use(self, track: VideoTrack, *, rtp_channel: int, rtcp_channel: int) -> None:
        """Take the track that SETUP agreed on; called before PLAY."""
        self._hevc = track.codec == "h265"
        self._codec = h265 if self._hevc else h264
        self._sets = ParameterSets(track.codec, track.parameter_sets)
        self._frame_rate = track.frame_rate
        self._payload_type = track.payload_type
        self._video = rtp_channel
        self._control = rtcp_channel

    def _reset(self) -> None:
        self._scratch = Fragmenter(self._sink, Timeline(), _NO_INIT, keep_gop=False)
        self._out = self._scratch.buffer
        self._o = DATA_AT
        self._unit = DATA_AT  # where the open unit begins
        self._stamp = 0
        self._nal = _NONE  # where the length of an unfinished NAL stands
        self._nal_slice = False
        self._slices = False
        self._key = False
        self._signed = False
        self._nals = 0
        self._next_seq = _NONE
        self._damaged = False
        self._damaged_stamp: int | None = None
        self._broken = False
        self._scan_left = SCANNED_SLICES
        self._annexb = False
        self._loss: PacketLoss | None = None

    def feed(self, data: bytearray | memoryview, p: int, end: int, now_us: int) -> int:  # noqa: PLR0915 - one loop with local names is the point (hotpath.md, shape 4)
        """Parse `data[p:end]`; return where the first incomplete piece begins.

        At least SLACK_BYTES must be readable behind `end`. Cost: hotpath.md.
        """
        unpack, pack = _HEAD.unpack_from, _LENGTH.pack_into
        view = memoryview(data)
        hevc, video = self._hevc, self._video
        # A fragment that starts a slice which is no key picture: types 0 and 1 (H.265), 1 (H.264).
        fragment_kind, head, slice_mask = (49, 19, 0xFE) if hevc else (28, 18, 0xDF)
        slice_start = 0x80 if hevc else 0x81
        plain = self._payload_type if self.playing else 256
        marked = plain | 128
        ssrc = self.ssrc
        if self._o - self._unit > UNIT_BYTES_MAX:
            self._too_large("bytes")
        self._out.ensure(self._o, end - p + ROOM_BYTES)
        out, o, nal, seq_next = self._out.view, self._o, self._nal, self._next_seq
        while end - p >= 4:
            first, channel, length, flags, second, seq, stamp, source, b0, b1, b2 = unpack(data, p)
            if first != 0x24:
                self._o, self._nal, self._next_seq = o, nal, seq_next
                q = self._text(view, p, end)
                if q == p:
                    break
                p = q
                plain = self._payload_type if self.playing else 256
                marked = plain | 128
                video, hevc = self._video, self._hevc
                fragment_kind, head, slice_mask = (49, 19, 0xFE) if hevc else (28, 18, 0xDF)
                slice_start = 0x80 if hevc else 0x81
                ssrc = self.ssrc
                self._out.ensure(self._o, end - p + ROOM_BYTES)
                out, o, nal, seq_next = self._out.view, self._o, self._nal, self._next_seq
                continue
            q = p + 4 + length
            if q > end:
                break
            if seq == seq_next and channel == video and flags == 0x80 and source == ssrc and length > 15:
                kind, fu = (b0 >> 1, b2) if hevc else (b0 & 0x9F, b1)
                if kind == fragment_kind and nal >= 0 and fu < 128 and stamp == self._stamp:
                    if second == plain and fu < 64:
                        e = o + q - p - head
                        out[o:e] = view[p + head : q]
                        o = e
                        seq_next = (seq + 1) & 0xFFFF
                        p = q
                        continue
                    if second == marked and fu >= 64 and self._nal_slice:
                        e = o + q - p - head
                        out[o:e] = view[p + head : q]
                        pack(out, nal, e - nal - 4)
                        self._o, self._nal, self._next_seq = e, _NONE, (seq + 1) & 0xFFFF
                        self._end_unit(now_us)
                        out, o, nal, seq_next = self._out.view, self._o, self._nal, self._next_seq
                        if o + end - p + ROOM_BYTES > len(out):
                            self._out.ensure(o, end - p + ROOM_BYTES)
                            out = self._out.view
                        p = q
                        continue
                elif (
                    kind == fragment_kind
                    and nal < 0
                    and second == plain
                    and fu & slice_mask == slice_start
                    and self._scan_left <= 0
                    and not (self._damaged or self._annexb)
                    and (not self._slices or stamp == self._stamp)
                ):
                    self._slices = self._nal_slice = True
                    self._stamp = stamp
                    nal = o
                    if hevc:
                        out[o + 4], out[o + 5] = (b0 & 0x81) | (fu & 0x3F) << 1, b1
                        o += 6
                    else:
                        out[o + 4] = (b0 & 0xE0) | (fu & 0x1F)
                        o += 5
                    e = o + q - p - head
                    out[o:e] = view[p + head : q]
                    o = e
                    seq_next = (seq + 1) & 0xFFFF
                    p = q
                    continue
            self._o, self._nal, self._next_seq = o, nal, seq_next
            self._packet(view, p, q, now_us)
            ssrc = self.ssrc
            out, o, nal, seq_next = self._out.view, self._o, self._nal, self._next_seq
            if o + end - p + ROOM_BYTES > len(out):
                self._out.ensure(o, end - p + ROOM_BYTES)
                out = self._out.view
            p = q
        self._o, self._nal, self._next_seq = o, nal, seq_next
        return p

    def clock_moved(self, step_us: int) -> None:
        """The host clock stepped: ages must not (a step is no stall)."""
        if self.last_unit_us is not None:
            self.last_unit_us += step_us
        if self.last_key_us is not None:
            self.last_key_us += step_us

    def finish(self, cause: GapCause, detail: EndDetail) -> None:
        """Hand over what is whole; an unfinished unit is lost with the connection."""
        self._tell_loss()
        if self.fragmenter is None:
            return
        if self._nal == _NONE and self._o > self._unit and not self._slices:
            # Whole NAL units without a picture, such as a last signing SEI: a sample of their own would
            # stop strict decoders, so they end the last unit.
            self.fragmenter.append_to_last(self._o, SIGNED if self._signed else 0)
        self.fragmenter.finish(cause, detail)

    # ---- everything below is the slower path ----

    def _text(self, view: memoryview, p: int, end: int) -> int:
        piece = next_piece(view, p, end)
        if piece.found is Found.MESSAGE:
            self._stray = 0
            self._receiver.on_text(bytes(view[p : piece.end]))
        elif piece.found is Found.STRAY:
            self._stray += piece.end - p
            self.stray_bytes += piece.end - p
            if self._stray > STRAY_BYTES_MAX:
                raise MessageError(f"{self._stray} bytes that are neither a frame nor a message", position=p)
        return piece.end

    def _packet(self, view: memoryview, p: int, q: int, now_us: int) -> None:
        channel = view[p + 1]
        self._stray = 0
        if channel != self._video:
            self._other_channel(view, p, q, channel, now_us)
            return
        if not self.playing:
            self.rejected["before_play"] += 1
            return
        try:
            packet = rtp.read_packet(view, p + 4, q)
            if packet.payload_type != self._payload_type:
                raise PacketError(f"payload_type_{packet.payload_type}", position=p)
        except PacketError as error:
            self.rejected[error.reason] += 1
            return
        if packet.ssrc != self.ssrc:
            self._new_source(packet)
        if packet.seq != self._next_seq and not self._sequence(packet.seq):
            return
        self._next_seq = (packet.seq + 1) & 0xFFFF
        self.highest_seq = packet.seq
        try:
            steps: list[Step] = self._codec.steps(view, packet.start, packet.end)
        except PacketError as error:
            self.rejected[error.reason] += 1
            steps = []
        for step in steps:
            self._step(view, step, packet.timestamp, now_us)
        if packet.marker:
            self._marker(now_us)

    def _other_channel(self, view: memoryview, p: int, q: int, channel: int, now_us: int) -> None:
        if channel != self._control:
            self.foreign += 1
            return
        report = rtp.sender_report(view, p + 4, q)
        if report is None or (self.ssrc is not None and report.ssrc != self.ssrc):
            return
        self.report, self.report_us = report, now_us
        if self.fragmenter is not None:
            self.fragmenter.camera_clock.report(report.camera_us, now_us)

    def _new_source(self, packet: rtp.RtpPacket) -> None:
        """Lock on the first SSRC; another one is a new run (P02)."""
        before, self.ssrc = self.ssrc, packet.ssrc
        self._next_seq = packet.seq
        if self.first_seq is None:
            self.first_seq = packet.seq
        if before is None:
            return
        self._drop_open_unit()
        self._damaged = False
        if self.fragmenter is not None and self.started:
            evidence: dict[str, int | str] = {"ssrc_before": before, "ssrc_after": packet.ssrc}
            reason = Missing(cause="stream_error", detail=EndDetail.RTP_DISCONTINUITY, evidence=evidence)
            self._o = self._unit = self.fragmenter.new_run(reason)
            self._out = self.fragmenter.buffer

    def _sequence(self, seq: int) -> bool:
        """Take a break in the sequence; False: an old packet, dropped."""
        if self._next_seq == _NONE:
            return True
        ahead = (seq - self._next_seq) & 0xFFFF
        if ahead >= 0xFF80:
            self.rejected["duplicate"] += 1
            return False
        lost_before = self.units_lost
        self._drop_open_unit()
        self._damaged = True
        self._broken = True
        self.packets_lost += ahead
        count = ahead + (self._loss.count if self._loss else 0)
        units = self.units_lost - lost_before + (self._loss.units if self._loss else 0)
        first = self._loss.first_seq if self._loss else (self._next_seq - 1) & 0xFFFF
        self._loss = PacketLoss(count=count, first_seq=first, last_seq=seq, units=units)
        return True

    def _drop_open_unit(self) -> None:
        """Throw the open unit away; its time stamp tells where it ends."""
        if self._o != self._unit or self._nal != _NONE:
            self._lose_unit()
            self._damaged_stamp = self._stamp
        else:
            self._damaged_stamp = None
        self._o = self._unit
        self._clear_unit()

    def _lose_unit(self) -> None:
        if self.started:
            self.units_lost += 1

    def _clear_unit(self) -> None:
        self._nal = _NONE
        self._slices = self._key = self._signed = False
        self._nals = 0

    def _step(self, view: memoryview, step: Step, stamp: int, now_us: int) -> None:
        what, header, start, end = step
        if what in (MIDDLE, END):
            if self._nal == _NONE:
                self._headless(stamp)
                return
            self._append(view, start, end)
            if what == END:
                self._end_nal()
            return
        if self._nal != _NONE:
            self.rejected["unterminated_fragment"] += 1
            self._end_nal()
        first = header[0] if header else view[start] if start < end else 0
        annexb = (
            not header
            and self._codec.kind_of(first) == 0
            and bytes(view[start : start + 3]) in (b"\0\0\0", _START_CODE)
        )
        kind = self._codec.kind_of(first)
        is_slice = self._codec.is_slice(kind) and not annexb
        if self._slices and stamp != self._stamp:
            self._end_unit(now_us)
        if self._damaged and not self._recovers(view, start, is_slice, stamp, header):
            return
        if not self._slices:
            self._stamp = stamp
        self._nal = self._o
        self._o += 4
        self._append(header, 0, len(header))
        self._append(view, start, end)
        if is_slice:
            self._slices = True
            self._key = self._key or self._codec.is_key(kind)
        self._nal_slice = is_slice and self._scan_left <= 0 and not self._annexb
        if what == WHOLE:
            self._end_nal()

    def _append(self, source: memoryview | bytes, start: int, end: int) -> None:
        size = end - start
        if self._o + size - self._unit > UNIT_BYTES_MAX:
            self._too_large("bytes")
            return
        self._out.ensure(self._o, size + ROOM_BYTES)
        self._out.view[self._o : self._o + size] = source[start:end]
        self._o += size

    def _too_large(self, what: str) -> None:
        self._sink.finding(Finding(kind="unit_too_large", facts={"limit": what}))
        self._drop_open_unit()
        self._damaged = self._broken = True
        self._loss = self._loss or PacketLoss(count=0, first_seq=self.highest_seq, last_seq=self.highest_seq, units=1)

    def _headless(self, stamp: int) -> None:
        """A later part of a NAL unit whose beginning never came."""
        if not self._damaged:
            self.rejected["fragment_without_start"] += 1
            self._drop_open_unit()
            self._damaged = self._broken = True
            self._damaged_stamp = stamp
        elif self._damaged_stamp != stamp:
            self._lose_unit()
            self._damaged_stamp = stamp

    def _recovers(self, view: memoryview, start: int, is_slice: bool, stamp: int, header: bytes) -> bool:
        """After damage: tell whether a new unit begins here; a slice must be the picture's first."""
        if self._damaged_stamp == stamp:
            return False
        at = start + (0 if header else self._codec.HEADER_BYTES)
        if is_slice and not (at < len(view) and view[at] & 0x80):
            self._lose_unit()
            self._damaged_stamp = stamp
            return False
        self._damaged = False
        self._damaged_stamp = None
        return True

    def _end_nal(self) -> None:
        nal, end = self._nal, self._o
        self._nal = _NONE
        if nal == _NONE:
            return
        if end - nal - 4 == 0:
            self._o = nal
            return
        self._nals += 1
        if self._nals > UNIT_NALS_MAX:
            self._too_large("nals")
            return
        data = self._out.data
        _LENGTH.pack_into(data, nal, end - nal - 4)
        kind = self._codec.kind_of(data[nal + 4])
        is_slice = self._codec.is_slice(kind)
        if is_slice and self._scan_left > 0:
            self._scan_left -= 1
        elif is_slice and not self._annexb:
            return
        # A signing SEI may hold a start code (seen in ONVIF's own test clip): SEI stays as sent.
        if self._codec.is_sei(kind) or data.find(_START_CODE, nal + 4, end) < 0 or not self._split(nal, end):
            self._note(kind, nal + 4, end)

    def _split(self, nal: int, end: int) -> bool:
        """Cut a NAL at the Annex B start codes inside it (H04, H06); False: what stands there are no NAL units."""
        pieces = [piece.rstrip(b"\x00") for piece in bytes(self._out.view[nal + 4 : end]).split(_START_CODE)]
        pieces = [piece for piece in pieces if piece]
        if not pieces or not all(self._codec.is_known(piece[0]) for piece in pieces):
            return False
        self._annexb = True
        self.rejected["annexb_start_code"] += 1
        self._o = nal
        self._nals += len(pieces) - 1
        for piece in pieces:
            self._out.ensure(self._o, len(piece) + ROOM_BYTES)
            _LENGTH.pack_into(self._out.data, self._o, len(piece))
            self._out.view[self._o + 4 : self._o + 4 + len(piece)] = piece
            self._o += 4 + len(piece)
            self._note(self._codec.kind_of(piece[0]), self._o - len(piece), self._o)
        return True

    def _note(self, kind: int, start: int, end: int) -> None:
        codec = self._codec
        if codec.is_slice(kind):
            self._slices = True
            self._key = self._key or codec.is_key(kind)
        elif codec.is_parameter_set(kind):
            self._sets.offer(bytes(self._out.view[start:end]))
        elif codec.is_sei(kind):
            self._signed = self._signed or any(self._out.data.find(uuid, start, end) >= 0 for uuid in _SIGNATURES)

    def _marker(self, now_us: int) -> None:
        if self._nal != _NONE:
            self._end_nal()
        if self._damaged:
            if self._damaged_stamp is None:
                self._lose_unit()
            self._damaged = False
            self._damaged_stamp = None
        elif self._slices:
            self._end_unit(now_us)

    def _end_unit(self, now_us: int) -> None:
        """The open unit is whole: hand it to the fragmenter, or skip it before the first key picture."""
        if self._nal != _NONE:
            self._end_nal()
        self.last_unit_us = now_us
        fragmenter = self.fragmenter
        if fragmenter is not None and not (
            self._key or self._signed or self._broken or self._loss is not None or self._sets.waiting
        ):
            self._slices = False
            self._nals = 0
            self.units += 1
            self._o = self._unit = fragmenter.unit(self._o, self._stamp, 0, now_us)
            self._out = fragmenter.buffer
            return
        key, signed = self._key, self._signed
        init: InitSegment | None = None
        if key:
            self._broken = False
            if self.last_key_us is not None:
                self.longest_gop_us = max(self.longest_gop_us, now_us - self.last_key_us)
            self.last_key_us = now_us
            init = self._new_init()
        elif self.started and self._sets.sequence_changed:
            self.fault = StreamFault(cause="stream_error", detail=EndDetail.PARAMETER_CHANGE, evidence={})
        self._clear_unit()
        if self.fragmenter is None and not (key and init is not None and self._start(init)):
            self.units_skipped += 1
            self._o = self._unit
            return
        if (fragmenter := self.fragmenter) is None:
            return
        flags = (KEY if key else 0) | (BROKEN if self._broken else 0) | (SIGNED if signed else 0)
        missing = self._tell_loss() if self._loss is not None else None
        self.units += 1
        self._o = self._unit = fragmenter.unit(self._o, self._stamp, flags, now_us, init=init, missing=missing)
        self._out = fragmenter.buffer

    def _new_init(self) -> InitSegment | None:
        try:
            return self._sets.take_init()
        except BitstreamError:
            self.rejected["parameter_set"] += 1
            return None

    def _start(self, init: InitSegment) -> bool:
        """The first key picture: recording begins with the buffer that already holds it."""
        facts = self._sets.facts
        rate = self._frame_rate or (facts.frame_rate if facts else None)
        timeline = Timeline(interval=round(90_000 / rate) if rate else None, reorder=facts.reorder if facts else None)
        fragmenter = Fragmenter(self._sink, timeline, init, keep_gop=self._keep_gop)
        fragmenter.buffer = self._out
        self.fragmenter = fragmenter
        self.started = True
        return True

    def _tell_loss(self) -> Missing | None:
        """Report a loss once the stream goes on; on TCP the camera drops because we read too slowly."""
        loss, self._loss = self._loss, None
        if loss is None:
            return None
        self._sink.loss(loss)
        evidence: dict[str, int | str] = {
            "packets": loss.count,
            "first_seq": loss.first_seq,
            "last_seq": loss.last_seq,
        }
        return Missing(cause="network_loss", detail=EndDetail.TCP_BACKPRESSURE, evidence=evidence)


_NO_INIT: Final = InitSegment(data=b"", sha256="", codec="", width=0, height=0)
