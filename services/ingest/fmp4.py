"""Fragmented MP4 as bytes: the init segment and the header of a fragment. Pure; no `sidx`, no edit list.

The sample entries are `avc1` and `hvc1` although parameter sets also stay in the samples, as the
camera sent them: `avc3` and `hev1` would be the exact names, but fewer players take them, and every
set in a sample equals the init's, since a change makes a new init (cameras.md 4.6).
Source: ISO/IEC 14496-12 8.8, 8.16.5; 14496-15 5.3.3, 8.3.3; cameras.md 8.2.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Final, Literal

from services.contracts.fragment import INIT_BYTES_MAX
from services.ingest.media_types import InitSegment
from services.ingest.parameter_sets import SpsFacts, h264, h265
from services.ingest.rtsp.errors import BitstreamError

TIMESCALE: Final = 90_000
PRFT_BYTES: Final = 32
HEADER_ROOM: Final = 4_096  # stands before the data; enough for UNITS_MAX units
UNITS_MAX: Final = 300
KEY_FLAGS: Final = 0x02000000
OTHER_FLAGS: Final = 0x01010000
_NTP_EPOCH_S: Final = 2_208_988_800
_MATRIX: Final = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")
_FIXED: Final = Struct(">I4sIIQQ I4s I4sII I4s I4sIII I4sIQ I4sIIiI")
_MDAT: Final = Struct(">I4s")
_NTP: Final = Struct(">Q")
_MOOF_FIXED_BYTES: Final = _FIXED.size - PRFT_BYTES


def init_segment(codec: Literal["h264", "h265"], sets: Sequence[bytes]) -> InitSegment:
    """Return `ftyp` + `moov` for these parameter sets; equal sets give equal bytes.

    Raises:
        BitstreamError: a set is missing or cannot be read, or the result is larger than 4 KiB.
    """
    if codec == "h264":
        facts, entry, name = _avc(sets)
    else:
        facts, entry, name = _hevc(sets)
    data = _ftyp(entry[4:8]) + _moov(facts, entry)
    if len(data) > INIT_BYTES_MAX:
        raise BitstreamError(f"an init of {len(data)} bytes, at most {INIT_BYTES_MAX}")
    return InitSegment(
        data=data, sha256=hashlib.sha256(data).hexdigest(), codec=name, width=facts.width, height=facts.height
    )


def write_header(
    buffer: bytearray | memoryview,
    data_at: int,
    *,
    data_bytes: int,
    number: int,
    decode_time: int,
    keyframe: bool,
    durations: Sequence[int],
    sizes: Sequence[int],
    offsets: Sequence[int] | None,
) -> int:
    """Write `prft`, `moof` and the head of `mdat` so that they end at `data_at`; return where they begin.

    `prft`'s time is left open (`write_time`). `offsets` are signed composition offsets, None for none.
    """
    count = len(sizes)
    table = _table(count, reordered=offsets is not None)
    moof = _MOOF_FIXED_BYTES + table.size
    start = data_at - 8 - table.size - _FIXED.size
    trun = 24 + table.size
    flags = 0x01000305 | (0x800 if offsets is not None else 0)
    _FIXED.pack_into(
        buffer, start,
        PRFT_BYTES, b"prft", 0x01000000, 1, 0, decode_time,
        moof, b"moof",
        16, b"mfhd", 0, number & 0xFFFFFFFF,
        moof - 24, b"traf",
        20, b"tfhd", 0x020020, 1, OTHER_FLAGS,
        20, b"tfdt", 0x01000000, decode_time,
        trun, b"trun", flags, count, moof + 8, KEY_FLAGS if keyframe else OTHER_FLAGS,
    )  # fmt: skip
    if offsets is None:
        values = [value for pair in zip(durations, sizes, strict=True) for value in pair]
    else:
        values = [value for three in zip(durations, sizes, offsets, strict=True) for value in three]
    table.pack_into(buffer, start + _FIXED.size, *values)
    _MDAT.pack_into(buffer, data_at - 8, 8 + data_bytes, b"mdat")
    return start


def write_time(buffer: bytearray | memoryview, start: int, start_us: int) -> None:
    """Put the wall time of the first unit into the `prft` at `start`."""
    seconds, micro = divmod(start_us, 1_000_000)
    _NTP.pack_into(buffer, start + 16, (seconds + _NTP_EPOCH_S) << 32 | (micro << 32) // 1_000_000)


@lru_cache(maxsize=1024)
def _table(count: int, *, reordered: bool) -> Struct:
    return Struct(">" + ("IIi" if reordered else "II") * count)


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4, "big") + name + body


def _full(name: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(name, flags.to_bytes(4, "big"), *parts)


def _words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def _ftyp(entry: bytes) -> bytes:
    return _box(b"ftyp", b"iso6", _words(0), b"iso6", b"mp41", entry)


def _moov(facts: SpsFacts, entry: bytes) -> bytes:
    mvhd = _full(
        b"mvhd", _words(0, 0, TIMESCALE, 0, 0x00010000), b"\x01\x00" + bytes(10), _MATRIX, bytes(24), _words(2)
    )
    tkhd = _full(
        b"tkhd",
        _words(0, 0, 1, 0, 0),
        bytes(16),
        _MATRIX,
        _words(facts.width << 16, facts.height << 16),
        flags=3,
    )
    mdhd = _full(b"mdhd", _words(0, 0, TIMESCALE, 0), b"\x55\xc4\x00\x00")
    hdlr = _full(b"hdlr", _words(0), b"vide", bytes(12), b"video\x00")
    dinf = _box(b"dinf", _full(b"dref", _words(1), _full(b"url ", flags=1)))
    empty = (_full(name, _words(0)) for name in (b"stts", b"stsc"))
    stbl = _box(
        b"stbl", _full(b"stsd", _words(1), entry), *empty, _full(b"stsz", _words(0, 0)), _full(b"stco", bytes(4))
    )
    minf = _box(b"minf", _full(b"vmhd", bytes(8), flags=1), dinf, stbl)
    trak = _box(b"trak", tkhd, _box(b"mdia", mdhd, hdlr, minf))
    mvex = _box(b"mvex", _full(b"trex", _words(1, 1, 0, 0, OTHER_FLAGS)))
    return _box(b"moov", mvhd, trak, mvex)


def _entry(name: bytes, facts: SpsFacts, configuration: bytes) -> bytes:
    size = facts.width.to_bytes(2, "big") + facts.height.to_bytes(2, "big")
    head = bytes(6) + b"\x00\x01" + bytes(16) + size + _words(0x00480000, 0x00480000, 0) + b"\x00\x01" + bytes(32)
    return _box(name, head, b"\x00\x18\xff\xff", configuration)


def _avc(sets: Sequence[bytes]) -> tuple[SpsFacts, bytes, str]:
    sequence = [nal for nal in sets if nal[0] & 31 == 7]
    picture = [nal for nal in sets if nal[0] & 31 == 8]
    if not sequence or not picture or len(sequence) > 31 or len(picture) > 255:
        raise BitstreamError("the sequence or picture parameter set is missing")
    facts = h264(sequence[0])
    body = b"\x01" + facts.profile + b"\xff" + bytes((0xE0 | len(sequence),)) + _listed(sequence)
    body += bytes((len(picture),)) + _listed(picture)
    if facts.profile[0] in (100, 110, 122, 144, 244):
        depths = (0xF8 | facts.bit_depth_luma - 8, 0xF8 | facts.bit_depth_chroma - 8)
        body += bytes((0xFC | facts.chroma_format, *depths, 0))
    return facts, _entry(b"avc1", facts, _box(b"avcC", body)), f"avc1.{facts.codec_suffix}"


def _hevc(sets: Sequence[bytes]) -> tuple[SpsFacts, bytes, str]:
    arrays = [[nal for nal in sets if (nal[0] >> 1) & 63 == kind] for kind in (32, 33, 34)]
    if not all(arrays):
        raise BitstreamError("the video, sequence or picture parameter set is missing")
    facts = h265(arrays[1][0])
    depths = (0xF8 | facts.bit_depth_luma - 8, 0xF8 | facts.bit_depth_chroma - 8)
    body = b"\x01" + facts.profile + b"\xf0\x00\xfc" + bytes((0xFC | facts.chroma_format, *depths, 0, 0, 0x0F, 3))
    for kind, array in zip((32, 33, 34), arrays, strict=True):
        body += bytes((0x80 | kind,)) + len(array).to_bytes(2, "big") + _listed(array)
    return facts, _entry(b"hvc1", facts, _box(b"hvcC", body)), f"hvc1.{facts.codec_suffix}"


def _listed(nals: Sequence[bytes]) -> bytes:
    return b"".join(len(nal).to_bytes(2, "big") + nal for nal in nals)
