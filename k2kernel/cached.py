"""`cached_property` as it is from Python 3.12 on: without a lock.

The one of Python 3.11 holds one lock for all instances while a value is made. A query that is made under it in one
thread and waits for another thread, which asks another instance, would wait for ever; a slow one would hold up others.
Two threads that ask the same instance at once may both make the value, and one of them is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property:  # noqa: N801 - the name that it stands for
        """A value that is made when it is first asked for, and kept in the instance."""

        def __init__(self, make: Callable[[Any], Any]) -> None:
            self._make, self.__doc__ = make, make.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self._name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._make(instance)
            return value


__all__ = ["cached_property"]
