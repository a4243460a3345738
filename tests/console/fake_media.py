"""Moving pictures for the fake gateway: fragmented MP4 of one length, and a still.

The clip repeats for ever: a repeat gets the decode time of its place, as a real camera would have it.
"""

import functools
import io
import struct
from dataclasses import dataclass
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 640
HEIGHT: Final = 360
FPS: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """An init and fragments of equal length, each starting with a key picture."""

    codec: str
    init: bytes
    fragments: tuple[bytes, ...]
    fragment_s: float
    ticks: int

    def fragment(self, index: int) -> bytes:
        """Return the n-th fragment of an endless stream."""
        return _at(self.fragments[index % len(self.fragments)], index * self.ticks)


@functools.cache
def clip(*, fragment_frames: int, fragments: int) -> Clip:
    """Encode a grey alley with somebody walking."""
    target = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(target, "w", format="mp4", options=options) as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = fragment_frames
        stream.codec_context.options = {
            "preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "sc_threshold": "0",
            "keyint_min": str(fragment_frames), "forced-idr": "1",
        }  # fmt: skip
        for number in range(fragment_frames * fragments):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    init, found = _split(target.getvalue())
    ticks = _decode_time(found[1]) - _decode_time(found[0])
    return Clip(
        codec=_codec(init), init=init, fragments=found[:fragments], fragment_s=fragment_frames / FPS, ticks=ticks
    )


@functools.cache
def still() -> bytes:
    """Return a JPEG."""
    target = io.BytesIO()
    with av.open(target, "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(40), format="rgb24")))
        out.mux(stream.encode())
    return target.getvalue()


def picture(number: int) -> NDArray[np.uint8]:
    """Return the alley with somebody walking through it."""
    image = _alley().copy()
    walker = 215 + (number * 4) % 210
    image[178:252, walker - 11 : walker + 11] = (150, 40, 44)
    image[166:188, walker - 10 : walker + 10] = (205, 180, 160)
    return image


@functools.cache
def _alley() -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = np.clip(52 + rows // 9, 0, 90)[..., None]
    depth = np.clip((rows - 110) / (HEIGHT - 110), 0, 1)
    path = np.abs(columns - WIDTH / 2) < 28 + depth * 210
    image[path & (rows > 110)] = (122, 120, 112)
    image[70:240, 60:130] = (74, 68, 62)
    image[60:250, 500:590] = (66, 70, 76)
    image[(rows - 62) ** 2 + (columns - 455) ** 2 < 160] = (255, 240, 190)
    image[62:290, 452:458] = (40, 40, 40)
    return image


def _split(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    boxes = list(_boxes(data))
    init = b"".join(body for name, body in boxes if name in {b"ftyp", b"moov"})
    moofs = [index for index, (name, _) in enumerate(boxes) if name == b"moof"]
    return init, tuple(boxes[index][1] + boxes[index + 1][1] for index in moofs)


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        found.append((name, data[at : at + length]))
        at += length
    return found


def _decode_time(fragment: bytes) -> int:
    return int(struct.unpack_from(">Q", fragment, fragment.index(b"tfdt") + 8)[0])


def _at(fragment: bytes, decode_time: int) -> bytes:
    place = fragment.index(b"tfdt") + 8
    return fragment[:place] + struct.pack(">Q", decode_time) + fragment[place + 8 :]


def _codec(init: bytes) -> str:
    place = init.index(b"avcC") + 5
    return f"avc1.{init[place : place + 3].hex().upper()}"
