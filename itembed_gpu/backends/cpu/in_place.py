"""What all that trains in host memory has in common: its tables are the caller's own."""

from __future__ import annotations

from ..protocol import Problem, Tally


class InPlace:
    """Those parts of a `protocol.BoundTask` that ask for no copies."""

    in_place = True

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._tally = Tally()

    def read_tally(self, wait: bool) -> Tally:
        result, self._tally = self._tally, Tally()
        return result

    def is_sound(self) -> bool:
        return self._problem.is_sound()

    def synchronize(self) -> None:
        """Nothing to do: the caller's arrays are trained in place."""

    def discard(self) -> None:
        """Nothing to do, likewise."""
