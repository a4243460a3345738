"""W3C trace context: the one header that follows a press from the door to the console. No I/O."""

import re
import secrets

# https://www.w3.org/TR/trace-context/ 3.2: version-traceid-parentid-flags, ids of zeros are invalid.
_FORM = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")


def given_or_new(header: str | None) -> str:
    """Return the caller's trace context if it is valid, else a new, sampled one."""
    if header is not None and _FORM.match(header):
        return header
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
