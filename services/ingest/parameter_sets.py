"""What a parameter set says: picture size, profile, reorder depth, frame rate. Pure.

Only the fields an init segment and the timeline need are read; H.265 is read no further than its
reorder depth, so scaling lists and inter-predicted sets (H13, H14) cannot disturb it.
Source: ITU-T H.264 7.3.2.1, E.1.1; ITU-T H.265 7.3.2.2, 7.3.3.
"""

from dataclasses import dataclass
from typing import Final

from services.ingest.rtsp.errors import BitstreamError

SET_BYTES_MAX: Final = 1024
_HIGH_PROFILES: Final = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


@dataclass(frozen=True, slots=True, kw_only=True)
class SpsFacts:
    """`reorder` is None where the set does not say; `compared` is the set without bytes behind its end (H10)."""

    codec_suffix: str
    width: int
    height: int
    chroma_format: int
    bit_depth_luma: int
    bit_depth_chroma: int
    reorder: int | None
    frame_rate: float | None
    profile: bytes
    compared: bytes


class _Bits:
    """Bits of an RBSP, most significant first."""

    def __init__(self, nal: bytes) -> None:
        if len(nal) > SET_BYTES_MAX:
            raise BitstreamError(f"parameter set of {len(nal)} bytes, at most {SET_BYTES_MAX}")
        rbsp = nal.replace(b"\x00\x00\x03", b"\x00\x00")
        self._number = int.from_bytes(rbsp, "big")
        self._left = 8 * len(rbsp)

    def take(self, count: int) -> int:
        if count > self._left:
            raise BitstreamError("parameter set ends early")
        self._left -= count
        return (self._number >> self._left) & ((1 << count) - 1)

    def exp(self) -> int:
        """ue(v)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise BitstreamError("an Exp-Golomb code is too long")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """se(v)."""
        code = self.exp()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def rest(self) -> int:
        return self._left


def h264(nal: bytes) -> SpsFacts:
    """Read an H.264 sequence parameter set.

    Raises:
        BitstreamError: it ends early or says something impossible.
    """
    if len(nal) < 5 or nal[0] & 31 != 7:
        raise BitstreamError("not an H.264 sequence parameter set")
    bits = _Bits(nal[4:])
    profile = nal[1]
    bits.exp()
    chroma, luma_depth, chroma_depth, separate = 1, 8, 8, 0
    if profile in _HIGH_PROFILES:
        chroma = bits.exp()
        separate = bits.take(1) if chroma == 3 else 0
        luma_depth, chroma_depth = 8 + bits.exp(), 8 + bits.exp()
        bits.take(1)
        if bits.take(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    bits.exp()
    poc_type = _poc(bits)
    bits.exp()
    bits.take(1)
    across, down = bits.exp() + 1, bits.exp() + 1
    frames_only = bits.take(1)
    if not frames_only:
        bits.take(1)
    bits.take(1)
    down *= 2 - frames_only
    left, right, top, bottom = (bits.exp() for _ in range(4)) if bits.take(1) else (0, 0, 0, 0)
    unit_x = 1 if chroma in (0, 3) or separate else 2
    unit_y = (2 - frames_only) * (2 if chroma == 1 and not separate else 1)
    reorder, rate = _h264_vui(bits) if bits.take(1) else (None, None)
    if poc_type == 2:
        reorder = 0
    return SpsFacts(
        codec_suffix=nal[1:4].hex(),
        width=_size(16 * across - unit_x * (left + right)),
        height=_size(16 * down - unit_y * (top + bottom)),
        chroma_format=chroma,
        bit_depth_luma=luma_depth,
        bit_depth_chroma=chroma_depth,
        reorder=reorder,
        frame_rate=rate,
        profile=nal[1:4],
        compared=_read_part(nal, bits),
    )


def h265(nal: bytes) -> SpsFacts:
    """Read an H.265 sequence parameter set up to its reorder depth.

    Raises:
        BitstreamError: it ends early or says something impossible.
    """
    if len(nal) < 15 or (nal[0] >> 1) & 63 != 33:
        raise BitstreamError("not an H.265 sequence parameter set")
    bits = _Bits(nal[2:])
    bits.take(4)
    layers = bits.take(3)
    bits.take(1)
    profile = bytes(bits.take(8) for _ in range(12))
    _skip_sub_layers(bits, layers)
    bits.exp()
    chroma = bits.exp()
    if chroma == 3:
        bits.take(1)
    width, height = bits.exp(), bits.exp()
    left, right, top, bottom = (bits.exp() for _ in range(4)) if bits.take(1) else (0, 0, 0, 0)
    luma_depth, chroma_depth = 8 + bits.exp(), 8 + bits.exp()
    bits.exp()
    reorder = 0
    for _ in range(layers + 1 if bits.take(1) else 1):
        bits.exp()
        reorder = bits.exp()
        bits.exp()
    unit_x, unit_y = (2 if chroma in (1, 2) else 1), (2 if chroma == 1 else 1)
    return SpsFacts(
        codec_suffix=_h265_suffix(profile),
        width=_size(width - unit_x * (left + right)),
        height=_size(height - unit_y * (top + bottom)),
        chroma_format=chroma,
        bit_depth_luma=luma_depth,
        bit_depth_chroma=chroma_depth,
        reorder=min(reorder, 16),
        frame_rate=None,
        profile=profile,
        compared=nal.rstrip(b"\x00"),
    )


def set_id(codec: str, kind: int, nal: bytes) -> int:
    """Return a set's own id, as far as it tells sets of one kind apart; 0 where it cannot be read."""
    try:
        if codec == "h264":
            return _Bits(nal[4:68] if kind == 7 else nal[1:65]).exp()
        if kind == 34:
            return _Bits(nal[2:66]).exp()
    except BitstreamError:
        return 0
    return nal[2] >> 4 if kind == 32 and len(nal) > 2 else 0


def _size(pixels: int) -> int:
    if not 0 < pixels < 1 << 16:
        raise BitstreamError(f"a picture side of {pixels} pixels")
    return pixels


def _poc(bits: _Bits) -> int:
    kind = bits.exp()
    if kind == 0:
        bits.exp()
    elif kind == 1:
        bits.take(1)
        bits.signed()
        bits.signed()
        cycle = bits.exp()
        if cycle > 255:
            raise BitstreamError(f"a picture order cycle of {cycle}")
        for _ in range(cycle):
            bits.signed()
    return kind


def _skip_scaling_list(bits: _Bits, entries: int) -> None:
    last = following = 8
    for _ in range(entries):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _h264_vui(bits: _Bits) -> tuple[int | None, float | None]:
    if bits.take(1) and bits.take(8) == 255:
        bits.take(32)
    if bits.take(1):
        bits.take(1)
    if bits.take(1):
        bits.take(4)
        if bits.take(1):
            bits.take(24)
    if bits.take(1):
        bits.exp()
        bits.exp()
    rate = None
    if bits.take(1):
        units, scale = bits.take(32), bits.take(32)
        bits.take(1)
        rate = scale / (2 * units) if units and 0.1 <= scale / (2 * units) <= 240 else None
    hrd = [_skip_hrd(bits) for _ in range(2) if bits.take(1)]
    if hrd:
        bits.take(1)
    bits.take(1)
    if not bits.take(1):
        return None, rate
    bits.take(1)
    for _ in range(4):
        bits.exp()
    reorder = bits.exp()
    bits.exp()
    return min(reorder, 16), rate


def _skip_hrd(bits: _Bits) -> bool:
    count = bits.exp() + 1
    if count > 32:
        raise BitstreamError(f"{count} coded picture buffers")
    bits.take(8)
    for _ in range(count):
        bits.exp()
        bits.exp()
        bits.take(1)
    bits.take(20)
    return True


def _read_part(nal: bytes, bits: _Bits) -> bytes:
    """Return the set up to its trailing bits; emulation bytes make this exact only without them."""
    unread = bits.rest() // 8
    return nal[: len(nal) - unread] if unread and b"\x00\x00\x03" not in nal else nal.rstrip(b"\x00")


def _skip_sub_layers(bits: _Bits, layers: int) -> None:
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile_there, level_there in present:
        bits.take(88 * profile_there)
        bits.take(8 * level_there)


def _h265_suffix(profile: bytes) -> str:
    """Return `1.6.L93.B0`: ISO/IEC 14496-15 annex E.3."""
    space = ("", "A", "B", "C")[profile[0] >> 6]
    compatibility = int(f"{int.from_bytes(profile[1:5], 'big'):032b}"[::-1], 2)
    tier = "H" if profile[0] & 0x20 else "L"
    constraints = profile[5:11].rstrip(b"\x00")
    words = [f"{space}{profile[0] & 31}", f"{compatibility:X}", f"{tier}{profile[11]}"]
    return ".".join(words + [f"{byte:X}" for byte in constraints])
