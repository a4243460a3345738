"""The rules of one partition without Kafka, and the whole service on a Kafka in memory."""

import pytest

from tests.unit.alerting.alarms import Desk
from tests.unit.alerting.world import World, a_world


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def world() -> World:
    return await a_world()
