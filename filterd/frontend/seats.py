"""What the processes at one listener know of each other: how many connections each has."""

import mmap

_NONE = 2**32 - 1


class Seat:
    """The place of one process. Made before the processes fork; none needs the others to run."""

    def __init__(self, counts: memoryview, number: int) -> None:
        self._counts = counts
        self._number = number

    def tell(self, count: int | None) -> None:
        """From now on this process has so many, or takes none (None)."""
        self._counts[self._number] = _NONE if count is None else count

    def roomiest(self) -> bool:
        """Whether no other process that takes any has fewer."""
        return bool(self._counts[self._number] == min(self._counts))


def seats(count: int) -> list[Seat]:
    """Seats for so many processes, in memory that they share."""
    counts = memoryview(mmap.mmap(-1, 4 * count)).cast("I")
    return [Seat(counts, number) for number in range(count)]
