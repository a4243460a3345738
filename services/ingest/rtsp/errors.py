"""What can be wrong with a camera's bytes, each with where it was found. Never carries payload or credentials."""

from services.runtime.errors import RetryLater


class CameraError(RetryLater):
    """The camera or the way to it failed: end the session, come back later."""


class MessageError(CameraError):
    """An RTSP message cannot be read, or is larger than its cap."""

    def __init__(self, reason: str, *, position: int = 0) -> None:
        super().__init__(f"RTSP message, byte {position}: {reason}")
        self.reason = reason
        self.position = position


class SdpError(CameraError):
    """The session description holds no video that can be recorded."""


class PacketError(CameraError):
    """One RTP or RTCP packet cannot be read; it is dropped and counted by `reason`."""

    def __init__(self, reason: str, *, position: int = 0) -> None:
        super().__init__(f"packet, byte {position}: {reason}")
        self.reason = reason
        self.position = position


class BitstreamError(CameraError):
    """A parameter set cannot be read."""


class SessionFailed(CameraError):
    """The dialogue cannot go on: `status` is the RTSP status where the camera gave one."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
