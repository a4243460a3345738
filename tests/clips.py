"""Recordings to follow: real cameras' own where they stand beside the checkout, else what we make ourselves."""

from pathlib import Path
from typing import Any, Final, Literal

import av

from services.simulators import night_alley

REAL: Final = ("test_signed_h264.mp4", "test_signed_h265.mp4", "test_h264.mp4", "test_h265.mp4")
Codec = Literal["h264", "h265"]
CODECS: Final[tuple[Codec, ...]] = ("h264", "h265")
ENCODERS: Final = {
    "h264": ("libx264", {"preset": "ultrafast", "g": "25"}),
    "h265": ("libx265", {"preset": "ultrafast", "x265-params": "keyint=25:bframes=0:open-gop=0:log-level=none"}),
}


def real_clips() -> dict[str, Path]:
    """Return the recordings of real cameras by name; none where they do not stand beside the checkout."""
    folders = (parent / "shared" / "data" / "clips" for parent in Path(__file__).resolve().parents)
    return {name: folder / name for folder in folders if folder.is_dir() for name in REAL}


def make_clip(file: Path, codec: Codec) -> Path:
    """Write 4 s of what a simulated camera sees, a key picture each second, and return the file."""
    encoder, options = ENCODERS[codec]
    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 360, "yuv420p", 1_000_000
        for number in range(100):
            pixels = night_alley.picture(number, stream.width, stream.height)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    return file


def clip_of(codec: Codec, folder: Path) -> Path:
    """Return a real recording of this codec, or one that is made in the folder."""
    return real_clips().get(f"test_{codec}.mp4") or make_clip(folder / f"{codec}.mp4", codec)
