"""aiokafka behind the port, with a guard for each of its surprises (kafka.md 3).

The only package that imports aiokafka. `AioKafka` is the way in.
"""

from services.runtime.kafka.cluster import AioKafka

__all__ = ["AioKafka"]
