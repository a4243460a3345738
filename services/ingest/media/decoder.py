"""Decodes the first picture of an init and a fragment that begins with a key picture. Blocking: run it in a thread."""

import io

import av
from av.video.frame import VideoFrame


class Undecodable(ValueError):
    """These bytes give no picture."""


def key_picture(init: bytes, fragment: bytes) -> VideoFrame:
    """Return the first picture.

    Raises:
        Undecodable: no decoder takes them.
    """
    try:
        with av.open(io.BytesIO(init + fragment), mode="r", format="mp4") as container:
            container.streams.video[0].thread_type = "NONE"
            for frame in container.decode(video=0):
                return frame
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise Undecodable(type(error).__name__) from None
    raise Undecodable("no picture")
