"""Session descriptions: which video track to set up, and at which URL. Pure and tolerant.

Fails only when no H.264 or H.265 video is left. Source: RFC 4566, RFC 6184 8.2, RFC 7798 7.2, cameras.md 3.2.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final, Literal

from services.ingest.rtsp.errors import SdpError
from services.ingest.rtsp.framing import BODY_BYTES_MAX

Codec = Literal["h264", "h265"]
_NAMES: Final[dict[str, Codec]] = {"H264": "h264", "H265": "h265", "HEVC": "h265"}
_SPROPS: Final = ("sprop-vps", "sprop-sps", "sprop-pps", "sprop-parameter-sets")
_SCHEME: Final = re.compile(r"^rtsps?://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTrack:
    """The one track we set up. `parameter_sets` are whole NAL units from `sprop`, if readable."""

    codec: Codec
    payload_type: int
    control: str
    parameter_sets: tuple[bytes, ...]
    frame_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a camera offers; audio is counted and never set up."""

    video: VideoTrack
    control: str
    tool: str
    audio_tracks: int


@dataclass(slots=True)
class _Media:
    kind: str
    formats: list[str]
    attributes: list[tuple[str, str]] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        return next((value for key, value in self.attributes if key == name), None)

    def of_format(self, name: str, payload_type: str) -> str | None:
        for key, value in self.attributes:
            number, _, rest = value.partition(" ")
            if key == name and number == payload_type:
                return rest.strip()
        return None


def parse(body: bytes) -> Description:
    """Read a description.

    Raises:
        SdpError: too large, or without video that can be recorded.
    """
    if len(body) > BODY_BYTES_MAX:
        raise SdpError(f"description of {len(body)} bytes, at most {BODY_BYTES_MAX}")
    session = _Media("session", [])
    media: list[_Media] = []
    for line in body.decode("utf-8", "replace").splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals:
            continue
        if key == "m":
            words = value.split()
            media.append(_Media(words[0].lower() if words else "", words[3:]))
        elif key == "a":
            name, _, text = value.partition(":")
            (media[-1] if media else session).attributes.append((name.strip().lower(), text.strip()))
    track = next((found for block in media if (found := _video(block)) is not None), None)
    if track is None:
        raise SdpError("no H.264 or H.265 video is offered")
    audio = sum(block.kind == "audio" for block in media)
    tool = session.value("tool") or ""
    return Description(video=track, control=session.value("control") or "", tool=tool, audio_tracks=audio)


def base_url(request_url: str, content_base: str | None, content_location: str | None) -> str:
    """Return what relative controls hang on; a base without a scheme gets the request's (R01)."""
    base = content_base or content_location or request_url
    base = base.strip()
    if _SCHEME.match(base):
        return base
    scheme, _, rest = request_url.partition("://")
    if base.startswith("/"):
        return f"{scheme}://{rest.partition('/')[0]}{base}"
    return f"{scheme}://{base}"


def control_url(base: str, control: str) -> str:
    """Join as servers mean it: base, exactly one slash at the seam, control (cameras.md 3.2.5)."""
    if control in ("", "*"):
        return base
    while _SCHEME.match(control) and _SCHEME.match(rest := control.partition("://")[2]):
        control = rest
    if _SCHEME.match(control):
        return control
    return f"{base.rstrip('/')}/{control.lstrip('/')}"


def _video(block: _Media) -> VideoTrack | None:
    if block.kind != "video":
        return None
    for payload_type in block.formats:
        codec = _codec(block, payload_type)
        if codec is None or not payload_type.isascii() or not payload_type.isdigit() or int(payload_type[:4]) > 127:
            continue
        fields = _fields(block.of_format("fmtp", payload_type) or "")
        if codec == "h265" and int(fields.get("sprop-max-don-diff", "0") or "0") > 0:
            continue
        return VideoTrack(
            codec=codec,
            payload_type=int(payload_type),
            control=block.value("control") or "",
            parameter_sets=_parameter_sets(fields),
            frame_rate=_frame_rate(block),
        )
    return None


def _codec(block: _Media, payload_type: str) -> Codec | None:
    mapped = block.of_format("rtpmap", payload_type)
    if mapped is None:
        fields = block.of_format("fmtp", payload_type) or ""
        return "h264" if "sprop-parameter-sets" in fields else None
    name, _, rate = mapped.partition("/")
    if rate.strip().partition("/")[0].strip() not in ("90000", ""):
        return None
    return _NAMES.get(name.strip().upper())


def _fields(fmtp: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in fmtp.split(";"))
    fields = {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}
    don_diff = fields.get("sprop-max-don-diff", "0")
    if not (don_diff.isascii() and don_diff.isdigit() and len(don_diff) < 9):
        fields["sprop-max-don-diff"] = "0"
    return fields


def _parameter_sets(fields: dict[str, str]) -> tuple[bytes, ...]:
    found: list[bytes] = []
    for name in _SPROPS:
        for text in fields.get(name, "").split(","):
            found += _units(text.strip().strip('"'))
    return tuple(found)


def _units(text: str) -> list[bytes]:
    """Decode one sprop value; start codes inside split it (H04), what cannot be read is left out (H11)."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return []
    return [unit for unit in re.split(rb"\x00*\x00\x00\x01", raw) if len(unit) > 1]


def _frame_rate(block: _Media) -> float | None:
    for name in ("framerate", "x-framerate"):
        text = block.value(name)
        if text and re.fullmatch(r"\d{1,4}(\.\d{1,6})?", text) and 0 < float(text) <= 240:
            return float(text)
    return None
