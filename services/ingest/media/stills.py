"""The last key picture of a camera as JPEG, for a page that cannot play its codec. Nothing is transcoded.

One thread, one picture per camera and key picture, asked for by whoever watches: nobody watching
costs nothing, and recording never waits.
"""

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import av
import structlog
from av.video.frame import VideoFrame

from services.contracts.units import UtcMicroseconds
from services.ingest import metrics
from services.ingest.media.decoder import Undecodable, key_picture
from services.ingest.media_types import LiveFragment

log = structlog.get_logger()

WIDTH_MAX: Final = 1280
WAITING_MAX: Final = 32
_QUALITY: Final = "4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """A picture and when it was taken."""

    captured_us: UtcMicroseconds
    jpeg: bytes = field(repr=False)


Make = Callable[[bytes, bytes], bytes]


def jpeg_of(init: bytes, fragment: bytes) -> bytes:
    """Return the key picture as JPEG, at most 1280 wide. Blocking.

    Raises:
        Undecodable: no decoder takes it.
    """
    return _encode(_smaller(key_picture(init, fragment)))


class Stills:
    """Makes a still when asked and keeps the newest one of each stream that was asked for."""

    def __init__(self, *, make: Make = jpeg_of) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stills")
        self._waiting = 0
        self._kept: dict[tuple[str, str], Still] = {}

    async def of(self, key: tuple[str, str], picture: LiveFragment) -> Still | None:
        """Return the still of this key picture; None when it cannot be made, or too many are asked for."""
        kept = self._kept.get(key)
        if kept is not None and kept.captured_us == picture.start_us:
            return kept
        if self._waiting >= WAITING_MAX:
            metrics.STILLS.labels("overload").inc()
            return None
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            jpeg = await loop.run_in_executor(self._pool, self._make, picture.init.data, picture.data)
        except Undecodable as error:
            metrics.STILLS.labels("undecodable").inc()
            log.warning("stills.undecodable", camera_id=key[0], reason=str(error))
            return None
        finally:
            self._waiting -= 1
        metrics.STILLS.labels("made").inc()
        still = self._kept[key] = Still(captured_us=picture.start_us, jpeg=jpeg)
        return still

    def forget(self, key: tuple[str, str]) -> None:
        self._kept.pop(key, None)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _smaller(frame: VideoFrame) -> VideoFrame:
    width = min(WIDTH_MAX, frame.width)
    height = round(frame.height * width / frame.width / 2) * 2
    return frame.reformat(width=width - width % 2, height=max(2, height), format="yuvj420p")


def _encode(frame: VideoFrame) -> bytes:
    out = io.BytesIO()
    with av.open(out, mode="w", format="image2pipe") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuvj420p"
        stream.options = {"q:v": _QUALITY, "qmin": _QUALITY, "qmax": _QUALITY}
        stream.codec_context.time_base = Fraction(1, 1)
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return out.getvalue()
