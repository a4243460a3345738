"""Who looked at what: on disk before the look is answered, in `audit` soon after (design.md, invariant 10).

One record per look; range reads of one viewing are folded per minute. A crash loses none: what is on
disk is sent by the next life, under the same id, so that readers drop a repeat.
"""

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import msgspec
import structlog

from services.archive.catalog import Catalog
from services.archive.metrics import ArchiveMetrics
from services.contracts.audit import Access
from services.contracts.units import UtcMicroseconds
from services.runtime.access_log import AccessLog
from services.runtime.clock import Clock
from services.runtime.errors import PoisonMessage, RetryLater

FOLD_US: Final = 60_000_000
FOLDS_MAX: Final = 4096
SETTLED_US: Final = 15_000_000
"""A fold is sent so long after its minute: beyond what its last change may wait for the catalog."""
WAITING_MAX: Final = 10_000
SEND_MAX: Final = 100
SEND_S: Final = 1.0

R = TypeVar("R")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewing:
    """What is folded: one account's reads of one camera for one reason."""

    account: str
    camera_id: str
    reason: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """The reads of one viewing so far, and the id under which they are kept."""

    event_id: str
    access: Access


class Audit:
    """Keeps looks, and sends them. `writing`: one thread, so that a fold's changes keep their order."""

    def __init__(self, *, catalog: Catalog, writing: Executor, clock: Clock, metrics: ArchiveMetrics) -> None:
        self._catalog = catalog
        self._writing = writing
        self._clock = clock
        self._metrics = metrics
        self._folds: dict[Viewing, Fold] = {}
        self._waiting = catalog.count_looks()

    @property
    def full(self) -> bool:
        """Whether Kafka has been away so long that no look can be noted: refuse them then."""
        return self._waiting >= WAITING_MAX

    def __len__(self) -> int:
        return self._waiting

    async def write(self, access: Access) -> None:
        """Return when the record is on disk. A denied look is kept also when it is full, up to twice the bound.

        Raises:
            RetryLater: it cannot be kept; the look must not be answered.
        """
        if self._waiting >= 2 * WAITING_MAX:
            self._metrics.access_records_lost.inc()
            log.error("audit.lost", action=access.action, result=access.result)
            return
        if access.action == "range_read" and access.result == "allowed" and access.camera_id is not None:
            await self._fold(access, access.camera_id)
        else:
            await self._keep(Fold(event_id=str(uuid.uuid4()), access=access), due_us=access.at_us)

    async def run(self, access_log: AccessLog) -> None:
        """Send what is due until cancelled."""
        while True:
            await self._clock.sleep(SEND_S)
            now_us = self._clock.now_us()
            self._folds = {at: fold for at, fold in self._folds.items() if now_us - fold.access.at_us < FOLD_US}
            try:
                await self.send(access_log, due_us=now_us)
            except RetryLater as error:
                log.warning("audit.retrying", reason=str(error))

    async def send(self, access_log: AccessLog, *, due_us: UtcMicroseconds | None = None) -> None:
        """Send what is due, or everything; the caller sets the deadline.

        Raises:
            RetryLater: the catalog is away.
        """
        while looks := await self._call(partial(self._catalog.looks_due, due_us, limit=SEND_MAX)):
            for event_id, access in looks.items():
                try:
                    await access_log.write(access, event_id=event_id)
                except PoisonMessage as error:
                    self._metrics.access_records_lost.inc()
                    log.error("audit.refused", action=access.action, reason=error.reason)
            await self._call(partial(self._catalog.drop_looks, tuple(looks)))
            self._count(await self._call(self._catalog.count_looks))

    async def _fold(self, access: Access, camera_id: str) -> None:
        at = Viewing(account=access.account, camera_id=camera_id, reason=access.reason, origin=access.origin)
        known = self._folds.get(at)
        if known is not None and access.at_us - known.access.at_us < FOLD_US:
            fold = Fold(event_id=known.event_id, access=_folded(known.access, access))
        else:
            fold, known = Fold(event_id=str(uuid.uuid4()), access=access), None
        if known is not None or len(self._folds) < FOLDS_MAX:
            self._folds[at] = fold
        await self._keep(fold, due_us=fold.access.at_us + FOLD_US + SETTLED_US, is_new=known is None)

    async def _keep(self, fold: Fold, *, due_us: UtcMicroseconds, is_new: bool = True) -> None:
        await self._call(partial(self._catalog.keep_look, fold.event_id, due_us, fold.access))
        if is_new:
            self._count(self._waiting + 1)

    def _count(self, waiting: int) -> None:
        self._waiting = waiting
        self._metrics.access_records.set(self._waiting)

    async def _call(self, blocking: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._writing, blocking)


def _folded(first: Access, more: Access) -> Access:
    starts = [at for at in (first.from_us, more.from_us) if at is not None]
    ends = [at for at in (first.to_us, more.to_us) if at is not None]
    return msgspec.structs.replace(
        first, from_us=min(starts, default=None), to_us=max(ends, default=None), bytes=first.bytes + more.bytes
    )
