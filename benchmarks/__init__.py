"""Questions about speed, each answered by running the real thing on this machine."""
