"""Starting without a broker: a service waits for Kafka, says so in /readyz, and can be stopped meanwhile.

A process that ended instead would be started again and again, and each start costs the machine more
than the wait.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from random import Random
from typing import Final, TypeVar

import structlog

from services.runtime.errors import PoisonMessage, RetryLater
from services.runtime.kafka_port import Kafka
from services.runtime.retry import BackOff
from services.runtime.service import ServiceContext
from services.runtime.waits import unless_stopped

log = structlog.get_logger()
T = TypeVar("T")
BACK_OFF: Final = BackOff(first_s=0.5, most_s=5.0)


async def until_answered(
    context: ServiceContext, call: Callable[[], Awaitable[T]], *, what: str, back_off: BackOff = BACK_OFF
) -> T:
    """Call until it succeeds; while it does not, the service is not ready.

    Raises:
        StoppedEarly: the service was told to stop first.
    """
    random = Random()  # noqa: S311 - jitter is no secret
    attempt = 0
    while True:
        try:
            return await unless_stopped(context.stopping, call())
        except RetryLater as error:
            attempt += 1
            context.ready(ready=False, reason=f"Kafka does not answer: {what}")
            log.warning("starting.waits", what=what, attempt=attempt, error=str(error))
        await unless_stopped(context.stopping, context.clock.sleep(back_off.wait_s(attempt, random)))


async def topic_there(context: ServiceContext, kafka: Kafka, topic: str) -> int:
    """Wait for a broker that leads this topic; return its partition count.

    A topic that is missing is waited for too: while brokers come up, one without a leader looks the same.
    """

    async def look() -> int:
        try:
            return await kafka.partitions(topic)
        except PoisonMessage as error:
            raise RetryLater(error.reason) from error

    return await until_answered(context, look, what=f"topic {topic}")


@asynccontextmanager
async def opened(
    context: ServiceContext, make: Callable[[], AbstractAsyncContextManager[T]], *, what: str
) -> AsyncIterator[T]:
    """Enter what needs a broker, again for as long as opening says RetryLater.

    It is entered on the caller's own task: what it opens may watch that task. So an attempt that runs
    ends by its own deadline; `topic_there` before it keeps that short.

    Raises:
        StoppedEarly: the service was told to stop between two attempts.
    """
    random = Random()  # noqa: S311 - jitter is no secret
    attempt = 0
    async with AsyncExitStack() as stack:
        while True:
            try:
                value = await stack.enter_async_context(make())
                break
            except RetryLater as error:
                attempt += 1
                context.ready(ready=False, reason=f"Kafka does not answer: {what}")
                log.warning("starting.waits", what=what, attempt=attempt, error=str(error))
            await unless_stopped(context.stopping, context.clock.sleep(BACK_OFF.wait_s(attempt, random)))
        yield value
