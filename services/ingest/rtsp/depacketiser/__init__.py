"""RTP payloads to NAL units. Pure: bytes and offsets in, operations out."""
