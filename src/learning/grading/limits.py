"""What a submission may use while it is judged; the time for a task is that of `judge`."""

CANARY_SECONDS = 30
"""How much longer the tests may take to judge the known wrong answer afterwards."""

CPU_SECONDS = 120
"""The time on a processor that one process may use."""

PROCESSES = 64
"""How many processes one task may have at a time, with those of servers that its test starts."""

MEMORY_BYTES = 3 * 2**29
"""How much memory all processes of a task may take together."""

PROMISED_BYTES = 2**32
"""How much one process may be promised, used or not: each thread is promised 8 MiB, and lesson 3 has hundreds."""

DISK_BYTES = 768 * 2**20
"""How much a submission can write in its sandbox, with the servers that it uses."""

SHARED_BYTES = 64 * 2**20
"""How much shared memory it can make."""

FILE_BYTES = 2**28
"""How big one file may become."""

TOLD_BYTES = 2**21
"""How much one task's test can have to tell."""

NOTEBOOK_BYTES = 2**24
"""How big a notebook may be, its outputs aside, and all files beside it together."""
