"""Threads share what the C library holds, so that a server of many threads does not grow by what each has freed."""

import platform
import subprocess
import sys

import pytest

_HEAPS = """
import ctypes, sys, tempfile, threading
from pathlib import Path

from fineline.server.memory import share_arenas

if sys.argv[1] == "shared":
    share_arenas()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(6)

def take():
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=take) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fopen.restype = ctypes.c_void_p
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "heaps")
    file = ctypes.c_void_p(libc.fopen(str(path).encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(path.read_text().count("<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
@pytest.mark.parametrize(("how", "few"), [("shared", True), ("apart", False)])
def test_threads_take_memory_from_two_arenas(how, few):
    found = subprocess.run([sys.executable, "-c", _HEAPS, how], capture_output=True, text=True, check=True).stdout
    assert (int(found) <= 2) == few
