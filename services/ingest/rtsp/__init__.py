"""Our RTSP/TCP client: one socket file, everything else pure (hotpath.md, cameras.md 3-4)."""
