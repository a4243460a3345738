"""Words shared by several contracts: instants, identifiers, streams. No I/O."""

from typing import Annotated, Final, Literal

from msgspec import Meta

UtcMicroseconds = Annotated[int, Meta(ge=0, description="microseconds since 1970-01-01 UTC")]
IDENTIFIER: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
Identifier = Annotated[
    str,
    Meta(
        pattern=IDENTIFIER,
        description="device, site or camera id: lower case, digits, '-' and '_', at most 64",
    ),
]
Epoch = Annotated[int, Meta(ge=1, description="fencing epoch: a claim's integer, later is higher")]
StreamName = Literal["main", "sub"]
