"""The alerts of one partition in memory, with the indexes the rules ask. Pure: no I/O.

Filled from `alerts` at restore and by each change after Kafka has it. Closed alerts stay whole for a
day, then as a name with its alarm ids until the tombstone, so that a replayed press is still dropped.
Nothing here has an upper limit in numbers: refusing an alert would hide a press. The size is a metric.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from services.alerting.timers import TOMBSTONE_US, AckLimits, Due, DueHeap, dues
from services.contracts.alert import Alert, CountedAlarm

_OPEN: Final = "NORMAL"


class Remembered(NamedTuple):
    """What is left of an alert closed a day ago."""

    root: str
    version: int
    tombstone_us: int
    alarm_ids: tuple[CountedAlarm, ...]


class Overdue(NamedTuple):
    """An alert with something due; `alert` None: only its tombstone is left to write."""

    alert_id: str
    root: str
    what: Due
    due_us: int


class PartitionState:
    """Life: empty; `put` for each alert restored or written; `overdue` by the timer; dropped with the partition."""

    def __init__(self, limits: AckLimits) -> None:
        self._limits = limits
        self._alerts: dict[str, Alert] = {}
        self._remembered: dict[str, Remembered] = {}
        self._open: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()
        self._heap = DueHeap()

    def __len__(self) -> int:
        return len(self._alerts)

    @property
    def active(self) -> int:
        return len(self._open)

    @property
    def remembered(self) -> int:
        return len(self._remembered)

    def get(self, alert_id: str) -> Alert | None:
        return self._alerts.get(alert_id)

    def open_alert(self, key: str) -> Alert | None:
        alert_id = self._open.get(key)
        return None if alert_id is None else self._alerts[alert_id]

    def seen(self, source: str, alarm: str) -> bool:
        return (source, alarm) in self._seen

    def knows(self, alert: str) -> bool:
        return alert in self._alerts or alert in self._remembered

    def alerts(self) -> Iterable[Alert]:
        return self._alerts.values()

    def put(self, alert: Alert) -> None:
        """Take an alert after a change. Cost: what changed, not how many there are."""
        before = self._alerts.get(alert.alert_id)
        self._alerts[alert.alert_id] = alert
        self._index_alarms(() if before is None else before.alarm_ids, alert.alarm_ids)
        if alert.isa.state != _OPEN:
            self._open[alert.dedup_key] = alert.alert_id
        elif self._open.get(alert.dedup_key) == alert.alert_id:
            del self._open[alert.dedup_key]
        known = {} if before is None else dues(before, self._limits)
        for what, due_us in dues(alert, self._limits).items():
            if known.get(what) != due_us:
                self._heap.push(due_us, alert.alert_id, what)

    def remove(self, alert_id: str) -> None:
        """Forget an alert whose tombstone stands in the log."""
        alert = self._alerts.pop(alert_id, None)
        remembered = self._remembered.pop(alert_id, None)
        if alert is not None and self._open.get(alert.dedup_key) == alert_id:
            del self._open[alert.dedup_key]
        for held in (alert, remembered):
            if held is not None:
                self._seen.difference_update((one.source, one.id) for one in held.alarm_ids)

    def next_due_us(self) -> int | None:
        return self._heap.next_us()

    def overdue(self, now_us: int) -> list[Overdue]:
        """Return what is due and still current; forgets what may be forgotten on the way."""
        found = []
        for due_us, alert_id, what in self._heap.pop(now_us):
            alert = self._alerts.get(alert_id)
            if what is Due.TOMBSTONE:
                if (remembered := self._remembered.get(alert_id)) is not None:
                    found.append(Overdue(alert_id, remembered.root, what, due_us))
            elif alert is not None and dues(alert, self._limits).get(what) == due_us:
                if what is Due.FORGET:
                    self._forget(alert)
                else:
                    found.append(Overdue(alert_id, alert.root, what, due_us))
        return found

    def still_due(self, overdue: Overdue) -> Alert | None:
        """Return the alert when what was found due has not been settled meanwhile."""
        alert = self._alerts.get(overdue.alert_id)
        if alert is None or dues(alert, self._limits).get(overdue.what) != overdue.due_us:
            return None
        return alert

    def tombstone_version(self, alert_id: str) -> int | None:
        remembered = self._remembered.get(alert_id)
        return None if remembered is None else remembered.version

    def _forget(self, alert: Alert) -> None:
        closed_us = alert.closed_us
        if closed_us is None:
            raise AssertionError("only a closed alert is forgotten")
        tombstone_us = closed_us + TOMBSTONE_US
        del self._alerts[alert.alert_id]
        self._remembered[alert.alert_id] = Remembered(alert.root, alert.version, tombstone_us, alert.alarm_ids)
        self._heap.push(tombstone_us, alert.alert_id, Due.TOMBSTONE)

    def _index_alarms(self, before: tuple[CountedAlarm, ...], after: tuple[CountedAlarm, ...]) -> None:
        """Add the new ids at the end and take out those trimmed from the front."""
        for one in reversed(after):
            if (one.source, one.id) in self._seen:
                break
            self._seen.add((one.source, one.id))
        if before and after and before[0] != after[0]:
            kept = {(one.source, one.id) for one in after}
            self._seen.difference_update({(one.source, one.id) for one in before} - kept)
