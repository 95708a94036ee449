"""The states of an expression, and which byte leads from one to another.

Run as a program, it does so for the expression on stdin, within limits: a short pattern can have
states without end, and one that takes too much shall cost its question and nothing else.
"""

import io
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

# The table, the states at which all is said, and the first state; state 0: nothing can be mended.
Table = tuple[NDArray[np.int32], NDArray[np.int32], int]

_BEGIN, _END = 1, 256  # a byte that no JSON holds, and no byte
_SECONDS, _BYTES, _STATES = 10.0, 1 << 30, 50_000


def table_of(expression: str) -> Table:
    """int32 (S, 256) states after a byte, int32 (E,) states, and one state.

    Raises:
        ValueError: it is no expression, or has too many states.
    """
    from outlines_core import Index, Vocabulary

    single = Vocabulary(_END, {bytes([byte]): [byte] for byte in range(256)})
    # The automaton is also made to find the expression anywhere; a beginning that nothing else
    # can be keeps that from growing without end.
    index = Index(rf"\x{_BEGIN:02x}(?:{expression})", single)
    steps: dict[int, dict[int, int]] = index.get_transitions()
    if len(steps) > _STATES:
        raise ValueError("it has too many states")
    places = {state: place for place, state in enumerate(sorted(steps), 1)}
    for last in index.get_final_states():
        places.setdefault(last, len(places) + 1)
    table = np.zeros((len(places) + 1, 256), dtype=np.int32)
    for state, following in steps.items():
        for byte, after in following.items():
            if byte != _END:
                table[places[state], byte] = places.get(after, 0)
    ends = np.array([places[state] for state in index.get_final_states()], dtype=np.int32)
    return table, ends, int(table[places[index.get_initial_state()], _BEGIN])


def table_apart(expression: str) -> Table:
    """As `table_of`, by a process of its own.

    Raises:
        ValueError: it is no expression, or takes too much time or memory.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            input=expression.encode(),
            capture_output=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"it takes more than {_SECONDS:g} s to prepare") from error
    if done.returncode == 1:
        raise ValueError(done.stderr.decode(errors="replace"))
    if done.returncode:  # whatever ended it
        raise ValueError("it takes too much memory to prepare")
    held = np.load(io.BytesIO(done.stdout))
    return held["table"], held["ends"], int(held["start"])


def _main() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_BYTES, _BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:  # not on this system
        pass
    try:
        table, ends, start = table_of(sys.stdin.buffer.read().decode())
    except ValueError as error:
        sys.stderr.write(str(error))
        sys.exit(1)
    except MemoryError:
        sys.exit(3)
    out = io.BytesIO()
    np.savez(out, table=table, ends=ends, start=start)
    sys.stdout.buffer.write(out.getbuffer())


if __name__ == "__main__":
    _main()
