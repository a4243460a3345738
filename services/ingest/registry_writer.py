"""The one writer of `devices.<pool>`: a city's file -> records, only those that changed.

`safealley devices apply FILE`, `list` and `validate FILE` end here. Nothing is removed unless it is
asked for: a file that lost a page must not switch off a street.
"""

import asyncio
import getpass
import sys
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypeVar

import msgspec

from services.contracts import codec
from services.contracts.audit import Access
from services.contracts.device import Device
from services.contracts.envelope import Envelope, rfc3339
from services.contracts.site import Site
from services.contracts.topics import AUDIT, devices
from services.ingest.registry import Registry, merged, pack, read_file, same_words, site_key
from services.runtime import yaml_file
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import PoisonMessage, RetryLater, SettingsError
from services.runtime.kafka_port import Kafka, Outgoing, ProducerProfile
from services.runtime.registry import RecordTable, read_record

T = TypeVar("T")

DONE: Final = 0
FAILED: Final = 1
REFUSED: Final = 2
_POLL_S: Final = 0.5
_DEADLINE_S: Final = 60.0
_CURE: Final = "else give its --data DIR, or --kafka HOST:PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One record to write. `body` None removes; `what` is the word for people."""

    what: str
    key: str
    partition: int
    body: Device | Site | None


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    key: str
    partition: int
    revision: int | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `apply` did, or would do."""

    file: str
    dry_run: bool
    steps: tuple[_Told, ...]
    unchanged: int
    not_in_file: tuple[str, ...]


def plan(wanted: Registry, table: RecordTable, partitions: int, *, prune: bool) -> list[Step]:
    """Return what has to be written so that the topic says what the file says. Pure."""
    now = merged(table)
    placed = {device_id: _standing_at(table, device_id) for device_id in wanted.devices}
    known = {device_id: at for device_id, at in placed.items() if at is not None}
    at = pack(wanted.devices.values(), known, partitions)
    steps = [
        step
        for site_id, site in sorted(wanted.sites.items())
        if (step := _step(site_key(site_id), site, now.sites.get(site_id), _site_at(table, site_id))) is not None
    ]
    steps += [
        step
        for device_id, device in sorted(wanted.devices.items())
        if (step := _step(device_id, device, now.devices.get(device_id), at[device_id])) is not None
    ]
    if prune:
        steps += [
            Step(what="removed", key=key, partition=part, body=None)
            for key in sorted(not_in(wanted, table))
            for part in sorted(table.partitions_of(key))
        ]
    return steps


def not_in(wanted: Registry, table: RecordTable) -> frozenset[str]:
    """Return the keys of the topic that the file does not name."""
    return table.keys() - set(wanted.devices) - {site_key(site_id) for site_id in wanted.sites}


async def apply(
    path: Path, kafka: Kafka, *, clock: Clock, pool: str = "main", dry_run: bool = False, prune: bool = False
) -> Outcome:
    """Write what changed and one audit record.

    Raises:
        SettingsError: the file is wrong; nothing was written.
        RetryLater: Kafka did not answer; run it again, what was written stays and is not repeated.
    """
    wanted = read_file(yaml_file.read_mapping(path))
    topic = devices(pool)
    partitions = await kafka.partitions(topic)
    table = await read_table(kafka, topic)
    steps = plan(wanted, table, partitions, prune=prune)
    if steps and not dry_run:
        async with kafka.producer(ProducerProfile.RECORDS) as producer:
            for step in steps:
                await producer.send(_outgoing(step, topic, clock))
            await producer.send(_audit(path, steps, clock))
    return Outcome(
        file=str(path),
        dry_run=dry_run,
        steps=tuple(_told(step) for step in steps),
        unchanged=len(wanted.sites) + len(wanted.devices) - sum(step.body is not None for step in steps),
        not_in_file=() if prune else tuple(sorted(not_in(wanted, table))),
    )


async def read_table(kafka: Kafka, topic: str) -> RecordTable:
    """Return the registry topic as it stands now.

    Raises:
        RetryLater: it was not read to its end in time.
    """
    table = RecordTable()
    try:
        async with asyncio.timeout(_DEADLINE_S), kafka.reader(await kafka.whole(topic)) as reader:
            while not reader.caught_up():
                for record in await reader.poll(timeout_s=_POLL_S):
                    if (standing := read_record(record)) is not None:
                        table.apply(standing)
    except TimeoutError:
        raise RetryLater(f"{topic} was not read to its end within {_DEADLINE_S} s") from None
    return table


def apply_file(
    path: Path, *, kafka_bootstrap: str, dry_run: bool = False, prune: bool = False, as_json: bool = False
) -> int:
    """Carry out `safealley devices apply FILE`; return the exit status."""

    async def act(kafka: Kafka, clock: Clock) -> Outcome:
        return await apply(path, kafka, clock=clock, dry_run=dry_run, prune=prune)

    outcome = _run(act, kafka_bootstrap)
    if isinstance(outcome, int):
        return outcome
    _print(outcome if as_json else _lines(outcome))
    return DONE


def list_devices(*, kafka_bootstrap: str, as_json: bool = False) -> int:
    """Carry out `safealley devices list`; return the exit status."""

    async def act(kafka: Kafka, _clock: Clock) -> Registry:
        return merged(await read_table(kafka, devices("main")))

    registry = _run(act, kafka_bootstrap)
    if isinstance(registry, int):
        return registry
    found = [device for _, device in sorted(registry.devices.items())]
    _print(found if as_json else [_line(device) for device in found] or ["no devices: safealley devices apply FILE"])
    return DONE


def validate_file(path: Path, *, as_json: bool = False) -> int:
    """Carry out `safealley devices validate FILE`; return the exit status."""
    try:
        city = read_file(yaml_file.read_mapping(path))
    except SettingsError as error:
        _print({"valid": False, "error": str(error)} if as_json else [str(error)], sys.stderr)
        return REFUSED
    cameras = len(city.cameras())
    facts = {"valid": True, "sites": len(city.sites), "devices": len(city.devices), "cameras": cameras}
    text = f"{path}: {len(city.sites)} sites, {len(city.devices)} devices, {cameras} of them cameras to record"
    _print(facts if as_json else [text])
    return DONE


def _standing_at(table: RecordTable, key: str) -> int | None:
    found = table.partitions_of(key)
    return max(found, key=lambda part: (found[part], -part)) if found else None


def _site_at(table: RecordTable, site_id: str) -> int:
    return _standing_at(table, site_key(site_id)) or 0


def _step(key: str, wanted: Device | Site, now: Device | Site | None, at: int) -> Step | None:
    if now is not None and same_words(wanted, now):
        return None
    revision = 1 if now is None else now.revision + 1
    body = msgspec.structs.replace(wanted, revision=revision)
    return Step(what="added" if now is None else "changed", key=key, partition=at, body=body)


def _outgoing(step: Step, topic: str, clock: Clock) -> Outgoing:
    now_us = clock.now_us()
    headers: tuple[tuple[str, bytes], ...] = ()
    if step.body is not None:
        headers = Envelope(
            id=f"{step.key}/{step.body.revision}",
            source="/registry",
            type=step.body.TYPE,
            subject=step.key,
            time=rfc3339(now_us),
            partitionkey=step.key,
        ).to_headers()
    return Outgoing(
        topic=topic,
        key=step.key,
        value=None if step.body is None else codec.encode(step.body),
        headers=headers,
        timestamp_ms=now_us // 1000,
        partition=step.partition,
    )


def _audit(path: Path, steps: Sequence[Step], clock: Clock) -> Outgoing:
    now_us = clock.now_us()
    account = f"os:{getpass.getuser()}"
    counts = ", ".join(f"{sum(step.what == what for step in steps)} {what}" for what in ("added", "changed", "removed"))
    access = Access(
        account=account,
        role="admin",
        at_us=now_us,
        origin="command-line",
        action="config",
        camera_id=None,
        from_us=None,
        to_us=None,
        request_id=str(uuid.uuid4()),
        reason=f"devices apply {path.name}: {counts}",
        result="allowed",
    )
    envelope = Envelope(
        id=access.request_id, source="/registry", type=Access.TYPE, subject=account, time=rfc3339(now_us),
        partitionkey=account,
    )  # fmt: skip
    return Outgoing(
        topic=AUDIT.name,
        key=account,
        value=codec.encode(access),
        headers=envelope.to_headers(),
        timestamp_ms=now_us // 1000,
    )


def _told(step: Step) -> _Told:
    revision = None if step.body is None else step.body.revision
    return _Told(what=step.what, key=step.key, partition=step.partition, revision=revision)


def _lines(outcome: Outcome) -> list[str]:
    would = "would be " if outcome.dry_run else ""
    lines = [f"{step.key}: {would}{step.what} (partition {step.partition})" for step in outcome.steps]
    removed = sum(step.what == "removed" for step in outcome.steps)
    written = len(outcome.steps) - removed
    lines.append(f"{written} {would}written, {removed} {would}removed, {outcome.unchanged} unchanged")
    if outcome.not_in_file:
        lines.append(f"not in the file and left as they are: {', '.join(outcome.not_in_file)}; --prune removes them")
    return lines


def _line(device: Device) -> str:
    enabled = "" if device.enabled else " (not enabled)"
    return f"{device.device_id}  {device.kind}  {device.site_id}  revision {device.revision}{enabled}"


def _print(what: object, out: TextIO | None = None) -> None:
    stream = out or sys.stdout
    is_text = isinstance(what, list) and all(isinstance(line, str) for line in what)
    text = "\n".join(what) if is_text and isinstance(what, list) else msgspec.json.encode(what).decode()
    stream.write(text + "\n")


def _run(act: Callable[[Kafka, Clock], Awaitable[T]], kafka_bootstrap: str) -> T | int:
    """Run against a real Kafka; on failure say why on stderr and return the exit status."""
    from services.runtime.kafka import AioKafka

    clock = SystemClock()
    try:
        return asyncio.run(_connected(act, AioKafka(kafka_bootstrap, clock=clock, client_id="devices"), clock))
    except SettingsError as error:
        _print([str(error)], sys.stderr)
        return REFUSED
    except (RetryLater, TimeoutError) as error:
        why = str(error) or "in time"
        told = f"Kafka at {kafka_bootstrap} does not answer; is `safealley up` running? {_CURE} ({why})"
        _print([told], sys.stderr)
        return FAILED
    except PoisonMessage as error:
        _print([f"Kafka at {kafka_bootstrap}: {error}"], sys.stderr)
        return FAILED


async def _connected(act: Callable[[Kafka, Clock], Awaitable[T]], kafka: Kafka, clock: Clock) -> T:
    return await act(kafka, clock)
