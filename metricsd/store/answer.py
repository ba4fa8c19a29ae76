"""An answer that is not there yet: what a store says that has to ask somebody else first.

Owns the result and the wait for it. Does not know what was asked.
"""

from typing import Any

from metricsd.store.interface import Receipt


class Answer(Receipt):
    """Stands for a result until it is settled; or refused, if there is none.

    A store that is elsewhere returns it from ``Series.after`` in the place of the columns, and
    ``items`` yields it between two keys, before those that are not known yet. A reader of either is
    a generator: it passes the answer on to whoever can wait for it, and goes on once it is settled,
    with ``result`` in the first case. Stores on this machine never do this.
    """

    __slots__ = ("_result",)

    def give(self, result: Any) -> None:
        """Settle it: this is the result."""
        self._result = result
        self.settle()

    @property
    def result(self) -> Any:
        """What was asked for, once it is settled. Raises StoreError if it was refused."""
        if self.refusal is not None:
            raise self.refusal
        return self._result
