"""The first thing that the server of verdicts imports, so that it outlives its kernel for a moment and cleans up.

Jupyter kills a kernel with all of its process group, and then nobody would remove the folder of the server's socket. In
a group of its own the server ends by itself, when the kernel's end of a pipe is closed. It stands outside of
`learning.course`, because importing that takes longer than some kernels live.
"""

import atexit
import os
import shutil

os.setsid()
atexit.register(shutil.rmtree, os.environ["LEARNING_JUDGE_FOLDER"], ignore_errors=True)
