"""A process that cannot reach a network, and whose every attempt is seen."""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from typing import Any

attempts: list[str] = []
started: list[str] = []
_SOCKET = {"x86_64": 41, "aarch64": 198}
_INET, _INET6 = 2, 10
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_KILL, _ALLOW = 0x80000000, 0x7FFF0000


def forbid_in_python() -> None:
    """Let whatever in Python opens a connection fail, and remember it, whoever swallows the error."""

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
            started.append(str(given[0]))
        unix = event == "socket.__new__" and given[1] not in (_INET, _INET6)
        told = event in ("urllib.Request", "http.client.connect", "ftplib.connect", "smtplib.connect")
        if told or (event.startswith("socket.") and event != "socket.gethostname" and not unix):
            attempts.append(f"{event} {given[1:]}")
            raise PermissionError(f"no network: {event}")

    sys.addaudithook(hook)


def forbid_in_the_kernel() -> bool:
    """Let the kernel kill this process when it opens a socket of the internet, in whatever language.

    Returns:
        Whether it will: there are machines and kernels where it cannot.
    """
    number = _SOCKET.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False

    def instruction(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_so, if_not, value)

    load, equals, end = 0x20, 0x15, 0x06
    program = (
        instruction(load, 0)  # the number of the call
        + instruction(equals, number, 0, 4)
        + instruction(load, 16)  # its first argument
        + instruction(equals, _INET, 1, 0)
        + instruction(equals, _INET6, 0, 1)
        + instruction(end, _KILL)
        + instruction(end, _ALLOW)
    )

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    libc = ctypes.CDLL(None)
    given = Program(len(program) // 8, program)
    return libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == libc.prctl(_SECCOMP, _FILTER, ctypes.byref(given), 0, 0) == 0
