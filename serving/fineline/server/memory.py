"""Memory that is free but kept by the C library."""

import ctypes
import gc
from contextlib import suppress

_ARENA_MAX = -8
"""``M_ARENA_MAX`` of glibc's ``malloc.h``."""


def share_arenas() -> None:
    """Let all threads take memory from two arenas; called before there are any.

    By default each thread has its own, up to eight a core, and what one thread frees is of no use to the others: with
    every model loaded by another thread, the server grew by some 6 MB a reload.
    """
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL("libc.so.6").mallopt(_ARENA_MAX, 2)


def give_back_memory() -> None:
    """Return to the system what is freed: after a reload that is a whole model."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
