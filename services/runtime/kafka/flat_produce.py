"""Produce requests written in pieces: a fragment goes from its batch to the socket without a copy.

aiokafka encodes a request by joining it five times, twice more in front of its header, and a fragment is
a quarter of a megabyte: seven copies through cold memory were a sixth of what a camera cost
(hotpath.md, F). This stands between aiokafka's sender and its client and reaches into one release of
it by private names; with any other release nothing is changed. A test compares every byte with the
stock encoder's.
"""
# ruff: noqa: SLF001 - the private names of one release, see above

import asyncio
import struct
from collections.abc import Awaitable, Sequence
from typing import Any, Final

import aiokafka
from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.util import wait_for

KNOWN_RELEASE: Final = "0.14.0"
VERSIONS: Final = range(3, 8)
"""One shape: transactional id, acks, timeout, topics; what came before and after has another."""

_SIZE: Final = struct.Struct(">i")
_FRONT: Final = struct.Struct(">hhii")
_NO_TRANSACTION: Final = -1

Buffer = bytes | bytearray


def use(producer: Any, *, release: str = aiokafka.__version__) -> bool:
    """Let a producer write in pieces; False when this release of aiokafka is not the known one."""
    if release != KNOWN_RELEASE:
        return False
    producer._sender.client = FlatClient(producer.client)
    return True


def pieces(header: bytes, request: Any) -> Sequence[Buffer]:
    """Return size, header and request as buffers to be written one after another.

    `request` is prepared, of one of VERSIONS and without a transaction. The batches are given on as they are.
    """
    found: list[Buffer] = []
    front = bytearray(header)
    front += _FRONT.pack(_NO_TRANSACTION, request.required_acks, request.timeout, len(request.topics))
    for topic, partitions in request.topics:
        name = topic.encode()
        front += struct.pack(f">h{len(name)}si", len(name), name, len(partitions))
        for partition, batch in partitions:
            front += struct.pack(">ii", partition, len(batch))
            found += (bytes(front), batch)
            front = bytearray()
    size = sum(len(piece) for piece in found)
    found[0] = _SIZE.pack(size) + found[0]
    return found


class FlatClient:
    """What the sender takes for its client: everything is passed on but the sending of a Produce request."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT) -> Any:
        """Do as AIOKafkaClient.send does, errors included."""
        if not isinstance(request, ProduceRequest) or request.required_acks == 0:
            return await self._client.send(node_id, request, group=group)
        if not await self._client.ready(node_id, group=group):
            raise NodeNotReadyError(f"Attempt to send a request to node which is not ready (node id {node_id}).")
        connection = self._client._conns[node_id, group]
        try:
            return await _written(connection, request)
        except TimeoutError as error:
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise RequestTimedOutError from error


def _written(connection: Any, request: Any) -> Awaitable[Any]:
    """Do as AIOKafkaConnection.send does; return what resolves to the response."""
    if connection._writer is None:
        raise KafkaConnectionError(f"No connection to broker at {connection.host}:{connection.port}")
    prepared = request.prepare(connection._versions)
    if prepared.API_VERSION not in VERSIONS or prepared.transactional_id is not None:
        answer: Awaitable[Any] = connection.send(request)
        return answer
    correlation_id = connection._next_correlation_id()
    header = prepared.build_request_header(correlation_id=correlation_id, client_id=connection._client_id)
    try:
        connection._writer.writelines(pieces(header.encode(), prepared))
    except OSError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {error}") from error
    response: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    connection._requests.append((correlation_id, prepared, response))
    waiting: Awaitable[Any] = wait_for(response, connection._request_timeout)
    return waiting
