"""Records in, objects, rows and pictures out: the whole of archive on a Kafka in memory."""

import asyncio
import io
import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from services.archive import api, app
from services.archive.catalog import Catalog, Segment, sqlite_url
from services.archive.clip import Clip, Cutting
from services.contracts import codec
from services.contracts.audit import Access
from services.contracts.timeline import ClipParts, Timeline
from services.contracts.topics import ALARMS, AUDIT, DEVICES, STREAMS, VIDEO
from services.runtime import http_server
from services.runtime.dead_letter import RUN_MAX
from services.runtime.identity import Role
from services.runtime.kafka_port import Outgoing
from tests.integration.archive.conftest import JURISDICTION, TOPICS, Archive, Bench, new_kafka
from tests.integration.audit_away import AuditAway
from tests.unit.archive.film import EPOCH, SECOND_US, START_US, coded_bytes, end_record, fragment_record, make_film

CAMERA = "/api/v1/archive/cameras/cam-1"


def at(second: float) -> int:
    return START_US + round(second * SECOND_US)


def query(begin: float, end: float) -> str:
    return f"from={at(begin)}&to={at(end)}&purpose=case-7"


async def timeline(archive: Archive, begin: float, end: float) -> Timeline:
    status, _, body = await archive.get(f"{CAMERA}/timeline?{query(begin, end)}")
    assert status == 200, body
    return msgspec.json.decode(body, type=Timeline)


async def until_state(archive: Archive, begin: float, end: float, *states: str) -> Timeline:
    seen: list[Timeline] = []

    async def is_so() -> bool:
        status, _, body = await archive.get(f"{CAMERA}/timeline?{query(begin, end)}")
        if status != 200:
            return False
        seen.append(msgspec.json.decode(body, type=Timeline))
        return [item.state for item in seen[-1].items] == list(states)

    await archive.until(is_so)
    return seen[-1]


def rows(bench: Bench) -> list[Segment]:
    catalog = Catalog(sqlite_url(bench.directory / "data" / "catalog.sqlite"))
    found = catalog.segments_between("cam-1", "main", START_US, at(10_000))
    catalog.close()
    return list(found)


def gaps(bench: Bench) -> list[Any]:
    catalog = Catalog(sqlite_url(bench.directory / "data" / "catalog.sqlite"))
    found = catalog.gaps_between("cam-1", "main", START_US, at(10_000))
    catalog.close()
    return list(found)


async def test_what_was_read_can_be_seen_at_once_and_taken_out_to_the_frame(bench: Bench) -> None:
    await bench.clock.advance(8)
    await bench.film(range(8))
    async with bench.archive() as archive:
        await until_state(archive, 0, 8, "open")
        status, headers, body = await archive.get(f"{CAMERA}/clip.mp4?{query(2.3, 5.8)}")
        assert status == 200
        assert headers["Safealley-State"] == "open"
        assert headers["Safealley-Requested"] == f"{at(2.3)}-{at(5.8)}"
        assert headers["Safealley-Contained"].startswith(f"{at(2)}-")
        taken, whole = coded_bytes(io.BytesIO(body)), coded_bytes(io.BytesIO(make_film().whole))
        assert taken == whole[50 : 50 + len(taken)]
        assert list(archive.settings.clip_dir.iterdir()) == []


async def test_callers_who_stop_reading_keep_no_other_from_a_clip(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as may have a clip made at once take nothing of theirs, which is larger than the sockets hold."""
    whole = 32 * 1024 * 1024

    def cut(cutting: Cutting, target: Path) -> Clip:
        with target.open("wb") as file:
            file.truncate(whole)
        return Clip(from_us=cutting.from_us, to_us=cutting.to_us, size_bytes=whole)

    monkeypatch.setattr(api, "cut", cut)
    monkeypatch.setattr(api, "CLIP_WAIT_S", 1.0)
    monkeypatch.setattr(http_server, "SEND_STALLED_MS", 3_000)
    await bench.clock.advance(8)
    await bench.film(range(8))
    async with bench.archive() as archive:
        await until_state(archive, 0, 8, "open")
        headers = {"Authorization": f"Bearer {archive.issuer.issue('auditor', jurisdictions=(JURISDICTION,))}"}
        clip = f"{archive.url}{CAMERA}/clip.mp4?{query(2, 6)}"
        # Each reads the head, and nothing of the body.
        deaf = [await archive.http.get(clip, headers=headers) for _ in range(archive.settings.clips_at_once)]
        assert [one.status for one in deaf] == [200] * len(deaf)
        status, _, body = await archive.get(f"{CAMERA}/clip.mp4?{query(2, 6)}")
        assert (status, len(body)) == (200, whole)
        async with asyncio.timeout(20):
            while list(archive.settings.clip_dir.iterdir()):  # the room of those who never read comes back
                await asyncio.to_thread(lambda: None)
        for one in deaf:
            one.close()


async def test_a_camera_that_is_recorded_now_is_never_unknown(bench: Bench) -> None:
    async with bench.archive() as archive:
        await bench.film(range(1))
        await until_state(archive, 0, 1, "open")
        begin = 1 + (bench.clock.now_us() - START_US) // SECOND_US
        await bench.film(range(1, begin))
        states: set[str] = set()
        for second in range(begin, begin + 75):
            await bench.clock.advance((at(second + 1) - bench.clock.now_us()) / SECOND_US)
            await bench.film(range(second, second + 1))
            answer = await archive.read_up_to(at(second + 1), f"{CAMERA}/timeline?{query(0, second + 2)}")
            states |= {item.state for item in answer.items}
            assert [(item.from_us, item.to_us) for item in answer.items if item.state == "pending"] == [
                (at(second + 1), at(second + 2))
            ]
            assert answer.coverage_ratio == 1.0
        assert states == {"recorded", "open", "pending"}


async def test_a_run_that_ended_is_stored_with_its_row_and_committed(bench: Bench) -> None:
    await bench.clock.advance(8)
    await bench.film(range(8))
    await bench.send(end_record(seq=7, end_us=at(8)))
    async with bench.archive() as archive:
        answer = await until_state(archive, 0, 8, "recorded")
        assert answer.coverage_ratio == 1.0
        status, headers, body = await archive.get(f"{CAMERA}/clip.mp4?{query(0, 8)}")
        assert (status, headers["Safealley-State"]) == (200, "recorded")
        assert coded_bytes(io.BytesIO(body)) == coded_bytes(io.BytesIO(make_film().whole))
        status, _, text = await archive.get(f"{CAMERA}/playlist.m3u8?{query(0, 10)}")
        assert status == 200
        assert text.count(b"#EXT-X-BYTERANGE") == 4
        assert b"#EXT-X-GAP" in text
    assert len(rows(bench)) == 1
    assert sum(bench.kafka.committed("archive.video").values()) == 9


async def test_the_playlist_s_bytes_play(bench: Bench) -> None:
    await bench.clock.advance(8)
    await bench.film(range(8))
    await bench.send(end_record(seq=7, end_us=at(8)))
    async with bench.archive() as archive:
        await until_state(archive, 0, 8, "recorded")
        _, _, text = await archive.get(f"{CAMERA}/playlist.m3u8?{query(2, 6)}")
        lines = text.decode().splitlines()
        init_uri = next(line.split('"')[1] for line in lines if line.startswith("#EXT-X-MAP"))
        status, _, film = await archive.get(f"{CAMERA}/{init_uri}")
        assert status == 200
        for before, line in itertools.pairwise(lines):
            if before.startswith("#EXT-X-BYTERANGE"):
                size, offset = map(int, before.split(":")[1].split("@"))
                status, headers, part = await archive.get(
                    f"{CAMERA}/{line}", Range=f"bytes={offset}-{offset + size - 1}"
                )
                assert (status, len(part)) == (206, size)
                assert headers["Content-Range"].startswith(f"bytes {offset}-")
                film += part
        assert coded_bytes(io.BytesIO(film)) == coded_bytes(io.BytesIO(make_film().whole))[50:150]


async def test_an_object_shorter_than_its_row_is_broken_off_where_it_ends(bench: Bench) -> None:
    await bench.clock.advance(8)
    await bench.film(range(8))
    await bench.send(end_record(seq=7, end_us=at(8)))
    async with bench.archive() as archive:
        await until_state(archive, 0, 8, "recorded")
        (row,) = rows(bench)
        files = (file for file in (bench.directory / "data").rglob("*") if file.is_file())
        (stored,) = [file for file in files if file.stat().st_size == row.size_bytes]
        os.truncate(stored, 1000)
        async with asyncio.timeout(10):
            with pytest.raises(aiohttp.ClientPayloadError):
                await archive.get(f"{CAMERA}/media/main-{EPOCH}-0.mp4?purpose=case-7")


async def test_a_restart_in_the_middle_gives_the_same_object(bench: Bench) -> None:
    await bench.clock.advance(8)
    await bench.film(range(5))
    async with bench.archive() as archive:
        await until_state(archive, 0, 5, "open")
    assert rows(bench) == []
    await bench.film(range(5, 8))
    await bench.send(end_record(seq=7, end_us=at(8)))
    async with bench.archive() as archive:
        await until_state(archive, 0, 8, "recorded")
    (row,) = rows(bench)
    assert (row.seq0, row.seq1) == (0, 7)


async def test_a_log_that_went_back_is_read_again_and_new_video_is_no_replay(bench: Bench) -> None:
    await bench.clock.advance(20)
    await bench.film(range(4))
    await bench.send(end_record(seq=3, end_us=at(4)))
    async with bench.archive() as archive:
        await until_state(archive, 0, 4, "recorded")
    place = next(place for place, offset in bench.kafka.committed("archive.video").items() if offset)
    bench.kafka.truncate(place, 2)
    await bench.film(range(6, 8), epoch=EPOCH + 1, first_seq=0)
    async with bench.archive() as archive:
        answer = await until_state(archive, 0, 8, "recorded", "gap", "open")
        assert answer.items[1].cause == "kafka_log_regressed"
    assert any(b"log_went_back" in (record.value or b"") for record in bench.kafka.records(ALARMS.name))


async def test_a_new_epoch_after_a_crash_explains_the_hole_before_it(bench: Bench) -> None:
    await bench.clock.advance(20)
    await bench.film(range(4))
    await bench.film(range(10, 14), epoch=EPOCH + 1, first_seq=0)
    async with bench.archive() as archive:
        answer = await until_state(archive, 0, 14, "recorded", "gap", "open")
        assert answer.items[1].cause == "ingest_restart"
        assert (answer.items[1].from_us, answer.items[1].to_us) == (at(4), at(10))


async def test_a_missing_fragment_is_a_gap_and_a_clip_over_it_names_the_parts(bench: Bench) -> None:
    await bench.clock.advance(20)
    await bench.film(range(4))
    await bench.film(range(6, 8))
    async with bench.archive() as archive:
        answer = await until_state(archive, 0, 8, "recorded", "gap", "open")
        assert answer.items[1].cause == "chunk_lost"
        status, _, body = await archive.get(f"{CAMERA}/clip.mp4?{query(0, 8)}")
        assert status == 409
        parts = msgspec.json.decode(body, type=ClipParts)
        assert [(part.from_us, part.to_us) for part in parts.parts] == [(at(0), at(4)), (at(6), at(8))]
        assert [gap.cause for gap in parts.gaps] == ["chunk_lost"]
        for part in parts.parts:
            status, _, _ = await archive.get(part.href)
            assert status == 200


async def test_a_record_that_can_never_be_stored_goes_to_the_dead_letters_without_its_pictures(bench: Bench) -> None:
    await bench.clock.advance(20)
    broken = fragment_record(make_film(), 1)
    await bench.film(range(1))
    await bench.send(replace(broken, value=b"\x00" * 4096))
    await bench.film(range(2, 4))
    async with bench.archive() as archive:
        await until_state(archive, 0, 4, "recorded", "gap", "open")
    (letter,) = bench.kafka.records(VIDEO.dead_letters)
    assert len(letter.value or b"") == 1024


async def test_unreadable_records_of_streams_all_become_dead_letters_and_stop_nothing(bench: Bench) -> None:
    count = RUN_MAX + 5
    bad = Outgoing(topic=STREAMS.name, key="cam-1", value=b"?", headers=(), timestamp_ms=bench.clock.now_us() // 1000)
    await bench.send(*[bad] * count)
    async with bench.archive() as archive:

        async def all_buried() -> bool:
            return len(bench.kafka.records(STREAMS.dead_letters)) == count

        await archive.until(all_buried)
        assert (await archive.get("/api/v1/archive", role=None))[0] == 200


async def test_every_look_has_a_reason_a_role_and_a_record(bench: Bench) -> None:
    await bench.clock.advance(8)
    await bench.film(range(8))
    async with bench.archive() as archive:
        await until_state(archive, 0, 8, "open")
        span = f"from={at(0)}&to={at(4)}"
        assert (await archive.get(f"{CAMERA}/clip.mp4?{span}"))[0] == 422
        assert (await archive.get(f"{CAMERA}/clip.mp4?{span}&purpose=x", role=None))[0] == 401
        refused: tuple[Role, ...] = ("operator", "records_officer", "police_liaison", "admin")
        for role in refused:
            status, _, _ = await archive.get(f"{CAMERA}/playlist.m3u8?{span}&purpose=x", role=role)
            assert status == 403
        assert (await archive.get(f"{CAMERA}/clip.mp4?{span}&purpose=case-9", role="auditor"))[0] == 200
        assert (await archive.get(f"{CAMERA}/clip.mp4?from=x&to=y&purpose=x"))[0] == 400
    said = [codec.decode(record.value or b"", Access) for record in bench.kafka.records(AUDIT.name)]
    assert ("clip", "allowed", "case-9", "auditor") in [(a.action, a.result, a.reason, a.role) for a in said]
    assert [a.role for a in said if a.result == "denied"] == list(refused)


async def test_a_look_that_was_answered_while_kafka_was_away_is_in_the_audit_log_of_the_next_life(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "FLUSH_S", 0.1)
    away = AuditAway(bench.kafka)
    await bench.clock.advance(8)
    await bench.film(range(8))
    with monkeypatch.context() as patch:
        patch.setattr(bench, "kafka", away)
        async with bench.archive() as archive:
            await until_state(archive, 0, 8, "open")
            assert (await archive.get(f"{CAMERA}/clip.mp4?{query(0, 4)}", role="auditor"))[0] == 200
    assert bench.kafka.records(AUDIT.name) == []
    async with bench.archive() as archive:

        async def clip_is_there() -> bool:
            said = [codec.decode(record.value or b"", Access) for record in bench.kafka.records(AUDIT.name)]
            return [(one.action, one.role) for one in said if one.action == "clip"] == [("clip", "auditor")]

        await archive.until(clip_is_there)


async def test_a_camera_exists_for_its_own_jurisdiction_alone(bench: Bench) -> None:
    await bench.clock.advance(8)
    await bench.film(range(8))
    await bench.register("cam-elsewhere", jurisdiction="seodaemun")
    async with bench.archive() as archive:
        await until_state(archive, 0, 8, "open")
        rest = ("timeline", "clip.mp4", "playlist.m3u8", f"media/main-{EPOCH}-0.mp4", f"init/{'0' * 64}.mp4")
        answers = {
            (await archive.get(f"/api/v1/archive/cameras/{camera}/{path}?{query(0, 8)}", role="auditor"))[0]
            for camera in ("cam-never", "cam-elsewhere")
            for path in rest
        }
        assert answers == {404}
        elsewhere = await archive.get(f"{CAMERA}/timeline?{query(0, 8)}", jurisdiction="seodaemun")
        never = await archive.get(f"/api/v1/archive/cameras/cam-never/timeline?{query(0, 8)}")
        assert (elsewhere[0], elsewhere[2]) == (never[0], never[2])
        found = f"/api/v1/archive/cameras/cam-elsewhere/timeline?{query(0, 8)}"
        status, _, body = await archive.get(found, jurisdiction="seodaemun")
        (item,) = msgspec.json.decode(body, type=Timeline).items
        assert (status, item.state, item.cause, item.detail) == (200, "gap", "not_scheduled", "before_first_record")
    said = [codec.decode(record.value or b"", Access) for record in bench.kafka.records(AUDIT.name)]
    assert len([access for access in said if access.result == "denied"]) == 12


async def test_a_camera_that_left_the_registry_is_still_its_jurisdiction_s(bench: Bench) -> None:
    await bench.clock.advance(8)
    await bench.film(range(8))
    async with bench.archive() as archive:
        await until_state(archive, 0, 8, "open")
        await bench.unregister("cam-1")
        await bench.register("cam-2")
        path = f"/api/v1/archive/cameras/cam-2/timeline?{query(0, 8)}"

        async def registry_was_read() -> bool:
            return (await archive.get(path))[0] == 200

        await archive.until(registry_was_read)
        assert (await timeline(archive, 0, 8)).items[0].state == "open"
    async with bench.archive() as archive:
        await until_state(archive, 0, 8, "open")
        assert (await archive.get(f"{CAMERA}/timeline?{query(0, 8)}", jurisdiction="seodaemun"))[0] == 404


async def test_before_the_registry_was_read_an_unknown_camera_is_to_be_asked_for_again(bench: Bench) -> None:
    async with bench.archive() as archive:
        await until_state(archive, -60, -50, "gap")
    kafka = await new_kafka(bench.clock, *(name for name in TOPICS if name != DEVICES.name))
    async with replace(bench, kafka=kafka).archive() as archive:
        assert (await archive.get(f"/api/v1/archive/cameras/cam-2/timeline?{query(0, 8)}"))[0] == 503
        assert (await archive.get(f"{CAMERA}/timeline?{query(-60, -50)}"))[0] == 200
