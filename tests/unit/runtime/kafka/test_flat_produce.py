"""Written in pieces, a Produce request is the same bytes, and fails in the same ways."""

import asyncio
from collections import deque
from typing import Any

import aiokafka
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest

from services.runtime.clock import settle
from services.runtime.kafka.flat_produce import KNOWN_RELEASE, VERSIONS, FlatClient, pieces, use


def batch(size: int) -> bytearray:
    builder = BatchBuilder(1024 * 1024, 0, is_transactional=False, key_serializer=None, value_serializer=None)
    builder.append(
        timestamp=1_000, key=b"cam-1", value=memoryview(bytes(size)), headers=[("ce_id", b"x"), ("init", b"")]
    )
    built: bytearray = builder._build()
    return built


def request(*topics: tuple[str, list[tuple[int, bytearray]]], acks: int = -1) -> ProduceRequest:
    listed: Any = list(topics)
    return ProduceRequest(transactional_id=None, required_acks=acks, timeout=15_000, topics=listed)


class Connection:
    """The side of an aiokafka connection that is used."""

    host, port = "broker", 9092
    _client_id = "test"
    _request_timeout: float | None = 5.0

    def __init__(self, versions: tuple[int, int] = (0, 12)) -> None:
        self._versions = {0: versions}
        self._requests: deque[Any] = deque()
        self._writer: Any = self
        self.written = b""
        self.stock: list[Any] = []
        self.closed: list[str] = []
        self.broken = False

    def _next_correlation_id(self) -> int:
        return 77

    def writelines(self, buffers: Any) -> None:
        if self.broken:
            raise ConnectionResetError
        self.written = b"".join(buffers)

    def close(self, *, reason: Any) -> None:
        self.closed.append(reason.name)

    async def _answered(self) -> str:
        return "stock"

    def send(self, sent: Any) -> Any:
        self.stock.append(sent)
        return self._answered()


class Client:
    def __init__(self, connection: Connection, *, is_ready: bool = True) -> None:
        self._conns = {(1, 0): connection}
        self.is_ready = is_ready
        self.passed_on: list[Any] = []

    async def ready(self, _node_id: int, *, group: int) -> bool:
        del group
        return self.is_ready

    async def send(self, node_id: int, sent: Any, *, group: int) -> str:
        self.passed_on.append((node_id, sent, group))
        return "passed on"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "topics",
    [
        [("video", [(3, 250_000)])],
        [("video", [(0, 1), (7, 400_000)])],
        [("video", [(0, 10)]), ("영상", [(1, 20), (2, 30)])],
    ],
    ids=["one fragment", "two partitions", "two topics"],
)
def test_the_pieces_are_the_bytes_of_the_stock_encoder(version: int, topics: list[Any]) -> None:
    listed = [(topic, [(partition, batch(size)) for partition, size in parts]) for topic, parts in topics]
    prepared: Any = request(*listed).prepare({0: (0, version)})
    assert version == prepared.API_VERSION
    header = prepared.build_request_header(correlation_id=9, client_id="ingest-0-video").encode()
    stock = header + prepared.encode()
    assert b"".join(pieces(header, prepared)) == len(stock).to_bytes(4, "big") + stock


def test_a_batch_is_written_as_it_stands_not_as_a_copy() -> None:
    one = batch(1_000)
    prepared = request(("video", [(3, one)])).prepare({0: (0, 7)})
    assert pieces(b"header", prepared)[1] is one


async def test_a_request_waits_for_the_response_of_its_correlation_id() -> None:
    connection = Connection()
    sending = asyncio.ensure_future(FlatClient(Client(connection)).send(1, request(("video", [(3, batch(10))]))))
    await settle()
    correlation_id, prepared, response = connection._requests[0]
    assert (correlation_id, prepared.API_VERSION) == (77, 7)
    assert int.from_bytes(connection.written[:4], "big") == len(connection.written) - 4
    response.set_result("placed")
    assert await sending == "placed"


async def test_without_a_response_the_connection_is_closed_and_the_request_has_timed_out() -> None:
    connection = Connection()
    connection._request_timeout = 0.0
    with pytest.raises(RequestTimedOutError):
        await FlatClient(Client(connection)).send(1, request(("video", [(3, batch(10))])))
    assert connection.closed == ["CONNECTION_TIMEOUT"]


async def test_a_connection_that_breaks_while_writing_is_closed() -> None:
    connection = Connection()
    connection.broken = True
    with pytest.raises(KafkaConnectionError):
        await FlatClient(Client(connection)).send(1, request(("video", [(3, batch(10))])))
    assert connection.closed == ["CONNECTION_BROKEN"]


async def test_a_closed_connection_is_an_error_of_the_connection() -> None:
    connection = Connection()
    connection._writer = None
    with pytest.raises(KafkaConnectionError):
        await FlatClient(Client(connection)).send(1, request(("video", [(3, batch(10))])))


async def test_a_node_that_is_not_ready_is_said_to_be_so() -> None:
    with pytest.raises(NodeNotReadyError):
        await FlatClient(Client(Connection(), is_ready=False)).send(1, request(("video", [(3, batch(10))])))


async def test_a_broker_of_another_request_version_gets_the_stock_request() -> None:
    connection = Connection(versions=(0, 2))
    assert await FlatClient(Client(connection)).send(1, request(("video", [(3, batch(10))]))) == "stock"
    assert (len(connection.stock), connection.written) == (1, b"")


@pytest.mark.parametrize("sent", ["metadata", request(acks=0)], ids=["another request", "a produce without an answer"])
async def test_everything_else_is_passed_on(sent: Any) -> None:
    client = Client(Connection())
    assert await FlatClient(client).send(1, sent) == "passed on"
    assert client.passed_on == [(1, sent, 0)]


async def test_a_producer_of_another_release_stays_as_it_is() -> None:
    producer: Any = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    assert not use(producer, release="0.15.0")
    assert producer._sender.client is producer.client
    await producer.stop()


async def test_the_installed_release_is_the_known_one_and_is_used() -> None:
    producer: Any = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    assert aiokafka.__version__ == KNOWN_RELEASE
    assert use(producer)
    assert producer._sender.client.force_metadata_update == producer.client.force_metadata_update
    await producer.stop()
