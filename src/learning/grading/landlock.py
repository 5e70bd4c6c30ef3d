"""Where bubblewrap cannot start: Landlock shuts files and ports off for this process, seccomp a few system calls.

Both need no rights and no namespaces, work in a container, and hold for all that this process will start.
"""

import ctypes
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE, ADD_RULE, RESTRICT = 444, 445, 446
"""The system calls, which have the same numbers on x86-64 and arm64."""

RULE_FOR_FOLDER, RULE_FOR_PORT = 1, 2

READ = 1 << 0 | 1 << 2 | 1 << 3
"""Execute a file, read a file, list a folder."""

LIST = 1 << 3
READ_FILE, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 1, 1 << 14

LAST_RIGHTS = {1: 12, 2: 13, 3: 14, 4: 14}
"""The highest right to files that each version of Landlock knows; later ones know 15."""

CONNECT_TCP = 1 << 1
OTHER_SOCKETS_AND_SIGNALS = 1 << 0 | 1 << 1

NO_NEW_PRIVILEGES = 38

PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Where the system takes ports from that nobody has asked for by number, as our servers do."""

FORBIDDEN = ("ptrace", "process_vm_readv", "process_vm_writev", "memfd_create", "userfaultfd", "perf_event_open", "bpf")
FORBIDDEN += ("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "keyctl", "add_key", "request_key")


class _Rights(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("ports", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Folder(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


class _Port(ctypes.Structure):
    _fields_ = (("rights", ctypes.c_uint64), ("port", ctypes.c_uint64))


def available() -> bool:
    """Whether this kernel has Landlock, and libseccomp is here. From Linux 6.7 on, ports are shut off too."""
    if not sys.platform.startswith("linux") or _version() < 1:
        return False
    try:
        import pyseccomp  # noqa: F401
    except (ImportError, OSError, RuntimeError):  # it looks for the library when it is imported
        return False
    return True


def restrict(readable: Iterable[Path], listed: Path, writable: Path) -> None:
    """Have this process, and all that it starts from now on, read these and write there, and nothing else.

    Args:
        listed: a folder in which it sees the names of what is there.

    Raises:
        OSError: if the kernel refuses.
    """
    version = _version()
    everything = (1 << LAST_RIGHTS.get(version, 15) + 1) - 1
    rights = _Rights(everything, CONNECT_TCP if version >= 4 else 0, OTHER_SOCKETS_AND_SIGNALS if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _call(CREATE, ctypes.byref(rights), size, 0)
    for path in readable:
        _allow(rules, path, READ if path.is_dir() else READ_FILE)
    for path in (Path("/dev/null"), Path("/dev/zero"), Path("/dev/full"), Path("/dev/urandom"), Path("/dev/random")):
        _allow(rules, path, (READ_FILE | WRITE_FILE | TRUNCATE) & everything)
    _allow(rules, Path("/proc"), READ)
    _allow(rules, listed, LIST)
    _allow(rules, writable, everything)
    if version >= 4:
        first, last = map(int, PORT_RANGE.read_text().split())
        for number in range(first, last + 1):
            port = _Port(CONNECT_TCP, number)
            _call(ADD_RULE, rules, RULE_FOR_PORT, ctypes.byref(port), 0)
    if ctypes.CDLL(None, use_errno=True).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _call(RESTRICT, rules, 0)
    os.close(rules)


def forbid_system_calls(network: bool) -> None:
    """Have this process, and all that it starts, get an error for what no answer needs.

    Args:
        network: whether the network is shut off by other means. Else there is no UDP, so no name can be looked up.
    """
    import pyseccomp as seccomp

    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    for name in FORBIDDEN:
        rules.add_rule(seccomp.ERRNO(1), name)
    if not network:
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
                which = seccomp.Arg(0, seccomp.EQ, family), seccomp.Arg(1, seccomp.MASKED_EQ, 0xF, kind)
                rules.add_rule(seccomp.ERRNO(13), "socket", *which)
    rules.load()


def _version() -> int:
    return max(0, ctypes.CDLL(None, use_errno=True).syscall(CREATE, None, 0, 1))


def _allow(rules: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _Folder(rights, descriptor)
        _call(ADD_RULE, rules, RULE_FOR_FOLDER, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
