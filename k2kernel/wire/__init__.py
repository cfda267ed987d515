"""Events on a wire: Avro in Confluent framing, made and read by columns; topic names; the schema registry."""

from k2kernel.wire.decode import Message, decode
from k2kernel.wire.encode import encode
from k2kernel.wire.registry import Registry, RegistryDown, UnknownSchema
from k2kernel.wire.topics import REPLAYED, Topic, subject

__all__ = ["REPLAYED", "Message", "Registry", "RegistryDown", "Topic", "UnknownSchema", "decode", "encode", "subject"]
