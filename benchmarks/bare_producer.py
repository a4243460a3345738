"""What Kafka alone costs: the same records as ingest's, made once, sent by the same producer at the same rate.

    python -m benchmarks.bare_producer BOOTSTRAP CAMERAS BYTES

Runs until it is ended; how_many_cameras reads its CPU time. No camera, no hash, no fragment is made:
ingest's figure less this one is what the rest of ingest costs.
"""

import asyncio
import sys

import uvloop

from services.contracts.fragment import Fragment
from services.contracts.topics import VIDEO
from services.runtime.clock import SystemClock
from services.runtime.kafka import AioKafka
from services.runtime.kafka_port import Outgoing, Producer, ProducerProfile


async def run(bootstrap: str, cameras: int, size: int) -> None:
    """Send one fragment per camera and second, each camera at its own phase."""
    clock = SystemClock()
    kafka = AioKafka(bootstrap, clock=clock, client_id="bare-producer")
    async with kafka.producer(ProducerProfile.VIDEO) as producer, asyncio.TaskGroup() as tasks:
        await kafka.partitions(VIDEO.name)
        for number in range(cameras):
            tasks.create_task(_camera(producer, clock, f"bare-{number + 1}", size, number / cameras))


async def _camera(producer: Producer, clock: SystemClock, camera_id: str, size: int, phase_s: float) -> None:
    loop = asyncio.get_running_loop()
    value = memoryview(bytearray(size))
    due_s = loop.time() + phase_s
    seq = 0
    while True:
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        await producer.send(_record(clock.now_us(), camera_id, seq, value))
        seq += 1
        due_s += 1.0


def _record(now_us: int, camera_id: str, seq: int, value: memoryview) -> Outgoing:
    headers = Fragment(
        camera_id=camera_id, stream="main", epoch=now_us, run=0, seq=seq, start_us=now_us, wall_us=1_000_000,
        media_90k=90_000, rtp_start_90k=0, recv_first_us=now_us, recv_last_us=now_us, clock_offset_us=None,
        camera_offset_ms=0, clock="unsynced", keyframe=True, broken_refs=False, codec="avc1.42C01E",
        retention_class="standard", init_sha256="0" * 64, sha256="0" * 64, signed_sei="absent", init=bytes(700),
    ).to_headers()  # fmt: skip
    return Outgoing(topic=VIDEO.name, key=camera_id, value=value, headers=headers, timestamp_ms=now_us // 1000)


def main() -> None:
    """Entry point; ends by a signal."""
    bootstrap, cameras, size = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(bootstrap, int(cameras), int(size)))


if __name__ == "__main__":
    main()
