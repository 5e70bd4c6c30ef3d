"""Submissions that want marks they have not earned, or the grader's files, or to harm others; and what is said of them.

Each is the worked lesson 1 with another answer to `memory_monitoring`, which does not do what the task asks. `body`
stands in its class, and runs when it is loaded; `init` when it is used.
"""

from dataclasses import dataclass, field

SECRET = "the-instructors-secret"

ANSWER = """
import os, sys
class MemoryMonitor:
    {body}
    def __init__(self, *arguments, **options):
        self.alerts = []
        {init}
    def sample(self):
        {sample}
"""


@dataclass(frozen=True)
class Hostile:
    """What it tries, the code of it, and words of the remark that it gets."""

    tries: str
    says: str
    init: str = "pass"
    body: str = "pass"
    sample: str = "return {}"
    beside: dict[str, str] = field(default_factory=dict)
    """Files in the learner's folder, beside the notebook."""

    @property
    def source(self) -> str:
        """The answer cell."""
        body, init, sample = (text.replace("\n", f"\n{indent}") for text, indent in self._parts())
        return ANSWER.format(body=body, init=init, sample=sample)

    def _parts(self) -> list[tuple[str, str]]:
        return [(self.body, " " * 4), (self.init, " " * 8), (self.sample, " " * 8)]


FORGED = """
import json
from learning.course.reading import behaviours
from learning.course.tasks import TASKS
events = [{"started": True}]
events += [{"behaviour": {"name": name, "outcome": "passed"}} for name in behaviours(TASKS["memory_monitoring"])]
events += [{"outcome": "passed", "reason": "", "remark": ""}, {"changed": []}, {"canary": ["failed"]}, {"done": True}]
lines = "".join(json.dumps(event) + chr(10) for event in events).encode()
for descriptor in range(3, 64):
    try:
        os.write(descriptor, lines)
    except OSError:
        pass
os._exit(0)
"""

FOR_MARKS = [
    Hostile(
        "equal to everything",
        "",
        sample="return type('Any', (dict,), {'__eq__': lambda *_: True, '__ne__': lambda *_: False, '__hash__': None})()",
    ),
    Hostile(
        "says that it is of another class, and equal",
        "",
        sample="return type('Any', (), {'__class__': property(lambda self: dict), '__eq__': lambda *_: True, '__iter__': lambda self: iter(())})()",
    ),
    Hostile(
        "a number that claims to be any number", "", sample="return type('Any', (int,), {'__eq__': lambda *_: True})()"
    ),
    Hostile(
        "patches the words that tests judge with",
        "uses learning.course.expect, a part of its judge",
        body="import learning.course.expect\nlearning.course.expect.expect.__code__ = (lambda came, expected, idea: None).__code__",
    ),
    Hostile(
        "puts its own function into the test's module",
        "uses sys.modules",
        init="for name in list(sys.modules):\n    if name.startswith('test_learning'):\n        sys.modules[name].expect = lambda *_: None",
    ),
    Hostile(
        "has dates that are all alike, for its judge too",
        "changed datetime.datetime, which its judge uses",
        body="import datetime\ndatetime.datetime = type('Fake', (datetime.datetime,), {'__eq__': lambda *_: True})",
    ),
    Hostile(
        "has numpy say that all is close",
        "changed numpy.allclose, which its judge uses",
        body="import numpy\nnumpy.allclose = lambda *_, **__: True",
    ),
    Hostile(
        "looks for a module of the judge in Python's table",
        "",
        init="sys.modules['learning.' 'course.expect'].expect = lambda *_: None",
    ),
    Hostile(
        "replaces a word of the judge, by a name that is made of parts",
        "",
        init="import importlib\nfor name in ('test_learning' '_03', 'learning.' 'course.expect'):\n"
        "    try: importlib.import_module(name).expect = lambda *_: None\n    except ImportError: pass",
    ),
    Hostile(
        "goes to the judge from the package that it may import",
        "uses learning.grading.watch, a part of its judge",
        init="import learning\nlearning.grading.watch._before.clear()",
    ),
    Hostile(
        "asks the tests themselves",
        "uses test_learning_03.sizes, a part of its judge",
        sample="import test_learning_03\nreturn test_learning_03.sizes(None)",
    ),
    Hostile(
        "is in the way when the tests are imported",
        "",
        body="class Finder:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n"
        "        if name.startswith('test_'):\n            sys.modules['learning.' 'course.expect'].expect = lambda *_: None\n"
        "sys.meta_path.insert(0, Finder)",
    ),
    Hostile(
        "has pytest load a plugin of its own",
        "",
        body="os.environ['PYTEST_ADDOPTS'] = '-p evil'\nsys.path.insert(0, '.')",
        beside={
            "evil.py": "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_makereport(item, call):\n    call.excinfo = None"
        },
    ),
    Hostile(
        "changes a module below the words",
        "changed abc.ABCMeta.__instancecheck__",
        init="import abc\nreal = abc.ABCMeta.__instancecheck__\nabc.ABCMeta.__instancecheck__ = lambda cls, each: real(cls, each)",
    ),
    Hostile(
        "has a library give other code to the judge",
        "reached into the functions of its judge",
        init="import functools, json\nfunctools.update_wrapper(json.dumps, lambda *a, **k: '{}', assigned=('__code__',), updated=())",
    ),
    Hostile(
        "has a library walk the frames",
        "looked into the frames of its judge",
        sample="import traceback\nfor frame, _ in traceback.walk_stack(None):\n    names = getattr(frame, 'f_' 'locals')\n"
        "    if 'saver' in names and 'held' in names: return names['held']\nreturn {}",
    ),
    Hostile(
        "walks the frames in a module beside",
        "looked into the frames of its judge",
        init="import helper\nself.go = helper.go",
        sample="return self.go()",
        beside={
            "helper.py": "import sys\ndef go():\n    frame = sys._getframe()\n    while frame:\n"
            "        if 'held' in frame.f_locals: return frame.f_locals['held']\n        frame = frame.f_back\n    return {}"
        },
    ),
    Hostile(
        "says what the test should have said",
        "wrote a result of its own in place of its judge",
        init="import traceback\nfor frame, _ in traceback.walk_stack(None):\n    tell = getattr(frame, 'f_' 'locals').get('tell')\n"
        "    if tell: break\nfor said in [{'behaviour': {}}, {'flag': 1}, {'over': True}, {'outcome': 'great'}, {'outcome': 'passed'}, 5]:\n"
        "    tell(said)\ntell({'started': True})",
    ),
    Hostile(
        "asks the debugger for pytest",
        "",
        init="import pdb\nfor plugin in pdb.set_trace.__self__._pluginmanager.get_plugins():\n"
        "    if hasattr(plugin, 'tell'):\n        plugin.tell({'outcome': 'passed', 'reason': '', 'remark': ''}); os._exit(0)",
    ),
    *(
        Hostile(
            f"has {what} ask for the frames",
            "looked into the frames of its judge",
            sample=f"{code}\nwhile frame:\n"
            "    names = getattr(frame, 'f_' 'locals')\n    if 'held' in names: return names['held']\n"
            "    frame = getattr(frame, 'f_' 'back')\nreturn {}",
        )
        for what, code in {
            "logging": "import logging\nframe = logging.currentframe()",
            "a mock": "from unittest.mock import Mock\nframe = Mock(side_effect=sys._getframe)()",
            "a property": "import functools\nclass Deep(int): pass\nDeep.z = functools.cached_property(sys._getframe)\n"
            "Deep.z.__set_name__(Deep, 'z')\nframe = Deep(0).z",
            "a thread": "import threading\nfrom concurrent.futures import ThreadPoolExecutor as Pool\n"
            "frame = Pool(1).submit(sys._current_frames).result()[threading.main_thread().ident]",
            "a thread, of an error,": "from concurrent.futures import ThreadPoolExecutor as Pool\nfrom operator import attrgetter\n"
            "try: 1 / 0\nexcept ZeroDivisionError as error: frame = Pool(1).submit(attrgetter('tb_frame'), error.__traceback__).result()",
        }.items()
    ),
    Hostile(
        "has a thread search the memory",
        "searched the memory for its judge",
        init="import gc\nfrom concurrent.futures import ThreadPoolExecutor as Pool\nself.all = Pool(1).submit(gc.get_objects).result()",
    ),
    Hostile(
        "has a thread make code in disguise",
        "made code in disguise",
        init="import json\nfrom concurrent.futures import ThreadPoolExecutor as Pool\n"
        "f = lambda: 1\nf.__code__ = Pool(1).submit(f.__code__.replace, co_filename=json.__file__).result()",
    ),
    Hostile(
        "has every thread traced",
        "traced its judge",
        init="import threading\nthreading.settrace(lambda *_: None)\nthread = threading.Thread(target=print)\n"
        "thread.start()\nthread.join()",
    ),
    Hostile(
        "is patched as long as it is compared",
        "changed builtins.id, which its judge uses",
        body="class Lie:\n    def __init__(self):\n        import builtins\n"
        "        self.was, builtins.id = builtins.id, lambda _: 0\n"
        "    def __del__(self):\n        import builtins\n        builtins.id = self.was",
        sample="return self.Lie()",
    ),
    Hostile(
        "reaches the words through the alarm",
        "changed learning.course.expect._plain, which its judge uses",
        init="import signal, weakref\nmissed = getattr(signal.getsignal(signal.SIGALRM), '__glo' 'bals__')['Missed']\n"
        "words = getattr(missed.__init__, '__glo' 'bals__')\nweakref.finalize(self, words.update, _plain=words['_plain'])\n"
        "words['_plain'] = lambda value: 0",
    ),
    Hostile(
        "brings code without its source",
        "",
        init="import pathlib, marshal, importlib.util\ncode = compile('value = 1', '/usr/lib/python.py', 'exec')\n"
        "pathlib.Path('helper.pyc').write_bytes(importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code))\nimport helper",
    ),
    Hostile(
        "makes the known wrong answer right",
        "",
        init="import glob\nfor path in glob.glob('/tmp/*/*.ipynb'): open(path, 'w').write('no notebook')\nraise ValueError",
    ),
    Hostile(
        "patches pytest",
        "changed _pytest.subtests.Subtests.test",
        body="import pytest, contextlib\npytest.Subtests.test = lambda self, *_, **__: contextlib.suppress(BaseException)",
    ),
    Hostile(
        "patches pytest by the back door",
        "changed _pytest",
        body="import contextlib\nsys.modules['_py' 'test.subtests'].Subtests.test = lambda self, *_, **__: contextlib.suppress(BaseException)",
    ),
    Hostile(
        "patches the plugin's errors away",
        "uses learning.course.expect, a part of its judge",
        init="sys.modules['learning.' 'course.expect'].Missed.__init__ = lambda self, **_: sys.exit(0)",
    ),
    Hostile(
        "patches a builtin",
        "ended the Python process",
        init="import builtins\nbuiltins.repr = lambda *_: 'ok'\nbuiltins.isinstance = lambda *_: True",
    ),
    Hostile(
        "patches json on its way out",
        "changed json",
        init="import json\nreal = json.dumps\njson.dumps = lambda *a, **k: real(*a, **k).replace('failed', 'passed')",
    ),
    Hostile(
        "walks the frames to what is expected",
        "looked into the frames of its judge",
        sample="frame = sys._getframe()\nwhile frame:\n    if 'saver' in frame.f_locals:\n"
        "        return frame.f_globals['sizes'](frame.f_locals['saver'])\n    frame = frame.f_back",
    ),
    Hostile(
        "walks the frames of an error",
        "looked into the frames of its judge",
        sample="try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    frame = error.__traceback__.tb_frame\n"
        "while frame:\n    if 'saver' in frame.f_locals and 'sizes' in frame.f_globals:\n"
        "        return frame.f_globals['sizes'](frame.f_locals['saver'])\n    frame = frame.f_back",
    ),
    Hostile(
        "searches the memory for the reporter",
        "searched the memory for its judge",
        init="import gc\nfor each in gc.get_objects():\n    if type(each).__name__ == '_Reporter':\n        each._tell({'outcome': 'passed', 'reason': '', 'remark': ''})",
    ),
    Hostile("writes the result itself", "wrote a result of its own in place of its judge", init=FORGED.strip()),
    Hostile(
        "asks the test's own helper",
        "uses learning.course.scenarios.sizes, a part of its judge",
        sample="from learning.course.scenarios import sizes\nreturn {}",
    ),
    Hostile("traces its judge", "traced its judge", init="sys.settrace(lambda *_: None)"),
    Hostile("uses ctypes", "used ctypes", init="import ctypes\nctypes.CDLL(None).getpid()"),
    Hostile(
        "has the test skipped", "uses pytest, by which it is judged", init="import pytest\npytest.skip('all good')"
    ),
    Hostile("interrupts the test", "ended the Python process", init="raise KeyboardInterrupt"),
    Hostile(
        "empties later cells of the notebook",
        "",
        body="from IPython import get_ipython\nget_ipython() and get_ipython().input_transformers_cleanup.append(lambda lines: [])",
    ),
    Hostile(
        "works at its marks from a thread, later",
        "changed json",
        init="import threading, time, json\nreal = json.dumps\ndef later():\n    time.sleep(0.01)\n"
        "    json.dumps = lambda *a, **k: real(*a, **k).replace('failed', 'passed')\n"
        "threading.Thread(target=later, daemon=True).start()",
    ),
    Hostile(
        "makes code in disguise",
        "made code in disguise",
        init="f = (lambda: 1)\nf.__code__.replace(co_filename='/usr/lib/json.py')",
    ),
]
"""They want marks that they have not earned."""

ON_THE_MACHINE = [
    Hostile("loops for ever", "still running after 10 s", init="while True: pass"),
    Hostile(
        "loops for ever, and holds off the alarm",
        "still running after 60 seconds",
        init="import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\nwhile True: time.sleep(1)",
    ),
    Hostile("leaves", "ended the Python process (exit code 0)", init="os._exit(0)"),
    Hostile(
        "dies of a signal without a name", "crashed the Python process (signal 40)", init="os.kill(os.getpid(), 40)"
    ),
    Hostile("leaves no depth for the tests", "", body="sys.setrecursionlimit(60)"),
    Hostile(
        "leaves no way to import the tests", "", body="sys.path.clear()\nsys.path_hooks.clear()\nsys.meta_path.clear()"
    ),
    Hostile("takes a module away from the tests", "kept its test from running", body="sys.modules['redis.crc'] = None"),
    Hostile("is in the way of what its judge writes", "", beside={"wrong": ""}),
    Hostile(
        "starts for ever",
        "still running after 60 seconds",
        init="import time, traceback\nfor frame, _ in traceback.walk_stack(None):\n    tell = getattr(frame, 'f_' 'locals').get('tell')\n"
        "    if tell: break\nwhile True:\n    try:\n        while True: tell({'started': True}); time.sleep(1)\n    except BaseException: pass",
    ),
    Hostile(
        "crashes", "crashed the Python process (SIGSEGV)", init="import signal\nos.kill(os.getpid(), signal.SIGSEGV)"
    ),
    Hostile("a fork bomb", "had more than 64 processes", init="while True: os.fork()"),
    Hostile(
        "a fork bomb whose parents leave",
        "processes",
        init="while True:\n    if os.fork(): os._exit(0)\n    os.setsid()\n    os.fork()",
    ),
    Hostile("takes 4 GiB of memory", "MemoryError", init="raise MemoryError() if not bytearray(4 << 30) else 0"),
    Hostile(
        "takes memory in many processes",
        "GiB of memory",
        init="import time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = b'x' * (400 << 20)\n        time.sleep(60)\ntime.sleep(60)",
    ),
    Hostile(
        "fills the disk",
        "filled its disk",
        init="try:\n    for number in range(100): open(f'/tmp/{number}', 'wb').write(bytes(2**27))\nexcept OSError: pass",
    ),
    Hostile("prints without end", "still running after 10 s", init="while True: print('x' * 10_000)"),
    Hostile("shouts in an error", "", init="raise ValueError('x' * 100_000_000)"),
    Hostile("closes what is open", "", init="os.closerange(3, 100)"),
]
"""They take what the machine has, or end what runs."""

FOR_OTHERS = [
    Hostile(
        "looks for the gradebook",
        "looked for files that are not its own (/srv",
        init="import glob\nopen('/srv/grades/gradebook.csv')",
    ),
    Hostile(
        "reads the worked answers",
        "looked for files that are not its own",
        init="open('{root}/solutions/01_memory.ipynb').read()",
    ),
    Hostile("writes to the course", "", init="open('{root}/src/learning/agent.py', 'a').write('# was here')"),
    Hostile("writes outside its folder", "", init="open('{outside}/was here', 'w').write('x')"),
    Hostile(
        "reads the instructor's environment",
        "",
        init="raise ValueError(str(dict(os.environ)) + open('/proc/self/environ').read())",
    ),
    Hostile(
        "reaches the network",
        "tried to reach the network (192.0.2.1)",
        init="import socket\nsocket.create_connection(('192.0.2.1', 80), 3)",
    ),
    Hostile(
        "asks for a name",
        "tried to reach the network (marks.example)",
        init="import socket\nsocket.gethostbyname('marks.example')",
    ),
    Hostile(
        "kills what watches it",
        "stopped the process that watches it",
        init="import signal\nos.kill(os.getppid(), signal.SIGKILL)",
    ),
    Hostile("kills everything", "stopped the process that watches it", init="os.kill(-1, 9)"),
    Hostile(
        "stays behind",
        "running processes behind",
        init="if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        import time\n        time.sleep(600)\n    os._exit(0)\nos.wait()",
    ),
    Hostile(
        "brings modules and settings of its own",
        "",
        beside={
            "json.py": "raise SystemExit",
            "conftest.py": "import pytest\n@pytest.fixture\ndef work():\n    raise SystemExit",
            "pytest.ini": "[pytest]\naddopts = --collect-only",
            "sitecustomize.py": "raise SystemExit",
        },
    ),
    Hostile("writes HTML", "", init="raise ValueError('<script>alert(1)</script><img src=x onerror=alert(1)>')"),
]
"""They reach for what is not theirs."""

HOSTILE = [*ON_THE_MACHINE, *FOR_OTHERS, *FOR_MARKS]
