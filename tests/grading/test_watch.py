"""What is seen of an answer from inside its process. What it must see, and more, is tried by `hostile`."""

import subprocess
import sys
from pathlib import Path

THREADS = """
import sys, threading
from learning.grading.watch import listen

sys.path.insert(0, sys.argv[1])
import library

barrier = threading.Barrier(16)
listen(lambda says, grave: print(says), (sys.argv[1],), ())

def ask():
    barrier.wait()
    library.caller()

threads = [threading.Thread(target=ask) for _ in range(16)]
for each in threads:
    each.start()
"""


def test_a_library_that_looks_at_frames_in_many_threads_at_once_is_no_cheat(tmp_path: Path):
    """As logging does for each line: its source is read at the first, while others come already."""
    text = (
        "import sys\n" + "# as long as some libraries are\n" * 100_000 + "def caller():\n    return sys._getframe(1)\n"
    )
    (tmp_path / "library.py").write_text(text)

    done = subprocess.run([sys.executable, "-c", THREADS, tmp_path], capture_output=True, text=True, check=True)

    assert done.stdout == ""
