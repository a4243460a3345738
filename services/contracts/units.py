"""Words shared by several contracts: instants, identifiers, streams. No I/O."""

from typing import Annotated, Literal

from msgspec import Meta

UtcMicroseconds = Annotated[int, Meta(ge=0, description="microseconds since 1970-01-01 UTC")]
Identifier = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$",
        description="device, site or camera id: lower case, digits, '-' and '_', at most 64",
    ),
]
Epoch = Annotated[int, Meta(ge=1, description="fencing epoch: a claim's integer, later is higher")]
StreamName = Literal["main", "sub"]
