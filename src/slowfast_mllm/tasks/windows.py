"""Parts of a long video that are looked at one by one."""

import math
from itertools import pairwise


def equal_parts(begin: float, end: float, longest: float) -> list[tuple[float, float]]:
    """Start and end in seconds of parts of one length, none longer than `longest`; at least one."""
    count = max(1, math.ceil((end - begin) / longest))
    times = [round(begin + (end - begin) * i / count, 4) for i in range(count + 1)]
    return list(pairwise(times))
