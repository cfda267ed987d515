"""Values that are made once, by threads that wait for each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from k2kernel.cached import cached_property


class Node:
    """Its value is made in another thread, of the values of the nodes below."""

    def __init__(self, below: Node | None = None) -> None:
        self.below, self.made = below, 0

    @cached_property
    def depth(self) -> int:
        """How many nodes are below."""
        self.made += 1
        if self.below is None:
            return 0
        with ThreadPoolExecutor(1) as pool:
            return 1 + pool.submit(lambda node: node.depth, self.below).result()


def test_one_instance_may_wait_for_another_in_another_thread() -> None:
    top = Node(Node(Node()))
    assert [top.depth, top.depth] == [2, 2]
    assert top.made == 1


def test_it_says_what_it_is() -> None:
    assert Node.depth.__doc__ == "How many nodes are below."
