"""A site: one Safe Alley with its cameras, lights and bells."""

from typing import ClassVar

from msgspec import Struct

from services.contracts.units import Identifier


class Name(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name in Korean and in English."""

    ko: str
    en: str


class Site(Struct, frozen=True, kw_only=True):
    """Where devices stand together; the correlation root of their alarms."""

    TYPE: ClassVar[str] = "kr.safealley.site.v1"

    site_id: Identifier
    name: Name
    jurisdiction: str
    police_station: str
    lon: float
    lat: float
    address: str = ""
    topology_root: str = ""
    revision: int = 1
