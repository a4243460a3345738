"""Who looked at what, to `audit`: one record per look, range reads of one viewing folded per minute."""

from dataclasses import dataclass
from typing import Final

import msgspec

from services.contracts.audit import Access
from services.contracts.units import UtcMicroseconds
from services.runtime.access_log import AccessLog

FOLD_US: Final = 60_000_000
FOLDS_MAX: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewing:
    """What is folded: one account's reads of one camera for one reason."""

    account: str
    camera_id: str
    reason: str
    origin: str


class Audit:
    """Folds range reads; everything else is written at once."""

    def __init__(self, log: AccessLog) -> None:
        self._log = log
        self._folds: dict[Viewing, Access] = {}

    @property
    def full(self) -> bool:
        """Whether Kafka has been away so long that no look can be noted: refuse them then."""
        return self._log.full

    def __len__(self) -> int:
        return len(self._folds) + len(self._log)

    def write(self, access: Access) -> None:
        if access.action != "range_read" or access.result != "allowed" or access.camera_id is None:
            self._log.write(access)
            return
        at = Viewing(account=access.account, camera_id=access.camera_id, reason=access.reason, origin=access.origin)
        folded = self._folds.get(at)
        if folded is None and len(self._folds) >= FOLDS_MAX:
            self._log.write(access)
            return
        self._folds[at] = access if folded is None else _folded(folded, access)

    def tick(self, now_us: UtcMicroseconds) -> None:
        """Write the folds whose minute is over."""
        for at, access in tuple(self._folds.items()):
            if now_us - access.at_us >= FOLD_US:
                self._log.write(self._folds.pop(at))

    def flush(self) -> None:
        """Write all folds."""
        for at in tuple(self._folds):
            self._log.write(self._folds.pop(at))


def _folded(first: Access, more: Access) -> Access:
    starts = [at for at in (first.from_us, more.from_us) if at is not None]
    ends = [at for at in (first.to_us, more.to_us) if at is not None]
    return msgspec.structs.replace(
        first, from_us=min(starts, default=None), to_us=max(ends, default=None), bytes=first.bytes + more.bytes
    )
