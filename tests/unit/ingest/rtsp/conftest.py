"""A sink that remembers, a camera made of packets, and where the shared recordings stand."""

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.ingest.media_types import (
    ClosedFragment,
    EndDetail,
    Finding,
    Hole,
    LiveFragment,
    PacketLoss,
    RunEnd,
    SessionPhase,
)
from services.ingest.rtsp.fast_path import SLACK_BYTES, MediaParser
from services.ingest.rtsp.sdp import VideoTrack

# 128x96, baseline, 25 pictures a second; and a picture parameter set of the same stream.
SPS = bytes.fromhex("6742c014da083684000003000400000300c83c50aa80")
PPS = bytes.fromhex("68ce3c80")
SPS_OTHER = bytes.fromhex("6742c015da083684000003000400000300c83c50aa80")


@dataclass
class RecordingSink:
    """Keeps copies of everything and gives every buffer back."""

    fragments: list[ClosedFragment] = field(default_factory=list)
    bytes_of: list[bytes] = field(default_factory=list)
    lives: list[LiveFragment] = field(default_factory=list)
    runs: list[RunEnd] = field(default_factory=list)
    losses: list[PacketLoss] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    phases: list[SessionPhase] = field(default_factory=list)

    def phase(self, phase: SessionPhase, detail: str) -> None:
        del detail
        self.phases.append(phase)

    def fragment(self, fragment: ClosedFragment) -> None:
        assert hashlib.sha256(fragment.data).hexdigest() == fragment.sha256
        self.bytes_of.append(bytes(fragment.data))
        self.fragments.append(fragment)
        fragment.release()

    def live(self, fragment: LiveFragment) -> None:
        self.lives.append(fragment)

    def run_ended(self, end: RunEnd) -> None:
        self.runs.append(end)

    def loss(self, loss: PacketLoss) -> None:
        self.losses.append(loss)

    def hole(self, hole: Hole) -> None:
        self.holes.append(hole)

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)

    @property
    def samples(self) -> list[tuple[bytes, ...]]:
        """The NAL units of every access unit, in decode order."""
        return [sample for raw in self.bytes_of for sample in read_samples(raw)]


def read_samples(fragment: bytes) -> list[tuple[bytes, ...]]:
    """Take one fragment apart by its own tables, with none of the product's code."""
    boxes: dict[bytes, bytes] = {}
    place = 0
    while place < len(fragment):
        size, name = struct.unpack_from(">I4s", fragment, place)
        boxes[name] = fragment[place + 8 : place + size]
        place += size
    assert list(boxes) == [b"prft", b"moof", b"mdat"]
    moof = boxes[b"moof"]
    at = moof.index(b"trun") + 4
    flags, count = struct.unpack_from(">II", moof, at)
    row = 12 if flags & 0x800 else 8
    sizes = [struct.unpack_from(">I", moof, at + 16 + row * n + 4)[0] for n in range(count)]
    assert sum(sizes) == len(boxes[b"mdat"])
    samples, place = [], 0
    for size in sizes:
        sample, place = boxes[b"mdat"][place : place + size], place + size
        nals = []
        while sample:
            (length,) = struct.unpack_from(">I", sample)
            nals.append(sample[4 : 4 + length])
            sample = sample[4 + length :]
        samples.append(tuple(nals))
    return samples


@dataclass
class PacketCamera:
    """Builds interleaved packets by hand and feeds them, split as the test likes."""

    sink: RecordingSink = field(default_factory=RecordingSink)
    codec: str = "h264"
    sets: tuple[bytes, ...] = (SPS, PPS)
    texts: list[bytes] = field(default_factory=list)
    seq: int = 65_530
    stamp: int = 1_000
    ssrc: int = 7
    payload_type: int = 96
    now_us: int = 1_700_000_000_000_000
    channel: int = 0

    def __post_init__(self) -> None:
        self.parser = MediaParser(self, self.sink)
        self.use(96)

    def use(self, payload_type: int, *, rtp_channel: int = 0) -> None:
        self.payload_type = payload_type
        self.channel = rtp_channel
        track = VideoTrack(
            codec="h265" if self.codec == "h265" else "h264",
            payload_type=payload_type,
            control="",
            parameter_sets=self.sets,
            frame_rate=25.0,
        )
        self.parser.use(track, rtp_channel=rtp_channel, rtcp_channel=rtp_channel ^ 1)
        self.parser.playing = True

    def on_text(self, message: bytes) -> None:
        self.texts.append(message)

    def raw(self, data: bytes) -> None:
        """Feed bytes as they come from the socket."""
        used = self.parser.feed(bytearray(data + bytes(SLACK_BYTES)), 0, len(data), self.now_us)
        assert used == len(data)

    def packet(self, payload: bytes, *, marker: bool = False, first: int = 0x80, middle: bytes = b"") -> bytes:
        kind = self.payload_type | (128 if marker else 0)
        head = struct.pack(">BBHII", first, kind, self.seq, self.stamp & 0xFFFFFFFF, self.ssrc)
        self.seq = (self.seq + 1) & 0xFFFF
        body = head + middle + payload
        return struct.pack(">BBH", 0x24, self.channel, len(body)) + body

    def send(self, payload: bytes, *, marker: bool = False, first: int = 0x80, middle: bytes = b"") -> None:
        self.raw(self.packet(payload, marker=marker, first=first, middle=middle))

    def next_unit(self, ticks: int = 3_600) -> None:
        """Let one frame interval pass."""
        self.stamp += ticks
        self.now_us += ticks * 100 // 9

    def unit(self, *payloads: bytes, marker: bool = True) -> None:
        """Send one unit, one payload a packet, marker on the last, and go on by one interval."""
        for number, payload in enumerate(payloads):
            self.send(payload, marker=marker and number == len(payloads) - 1)
        self.next_unit()

    def finish(self) -> list[tuple[bytes, ...]]:
        self.parser.finish("operator_stop", EndDetail.REQUESTED)
        return self.sink.samples


@pytest.fixture
def camera() -> PacketCamera:
    return PacketCamera()


@pytest.fixture
def make_camera() -> Callable[..., PacketCamera]:
    return PacketCamera


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def parameter_sets() -> tuple[bytes, bytes, bytes]:
    """SPS, PPS, and an SPS with the same id and another content."""
    return SPS, PPS, SPS_OTHER


def _candidates() -> Iterable[Path]:
    for parent in Path(__file__).resolve().parents:
        yield parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The recordings beside the checkout; a test that needs them is skipped where they are absent."""
    found = next((path for path in _candidates() if path.is_dir()), None)
    if found is None:
        pytest.skip("shared/data (real recordings) is not beside this checkout")
    return found
