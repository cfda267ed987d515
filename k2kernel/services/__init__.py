"""Local servers for development and tests: Apache Kafka and a schema registry, without containers."""

from k2kernel.services.local import LocalServices, Running
from k2kernel.services.servers import Kafka, Registry, cache, missing

__all__ = ["Kafka", "LocalServices", "Registry", "Running", "cache", "missing"]
