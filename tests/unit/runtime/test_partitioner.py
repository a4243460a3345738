import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as theirs
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("text", "signed"),
    [  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_the_hash_is_that_of_the_java_client(text: str, signed: int) -> None:
    assert murmur2(text.encode()) == signed & 0xFFFFFFFF


@given(st.binary(max_size=40))
def test_the_hash_is_that_of_the_python_client(data: bytes) -> None:
    assert murmur2(data) == theirs(data)


@given(st.text(max_size=20), st.integers(1, 240))
def test_a_key_goes_where_every_other_client_sends_it(key: str, partitions: int) -> None:
    everyone = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key.encode(), everyone, everyone)
