"What the tests share: where the photographs are, how a command is called, and how one waits for what another process does."
import multiprocessing, os, subprocess, sys, time
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent

def until(condition, what, timeout=120):
    "Wait until `condition()` is true, and give what it gave; where it isn't within `timeout` seconds, the failure says `what` was waited for"
    end = time.monotonic()+timeout
    while not (got := condition()):
        assert time.monotonic() < end, f'waited {timeout} s in vain for {what}'
        time.sleep(.02)
    return got

def warm():
    "A context whose processes are new, and yet have the imports already: they start at once, and a kill strikes training and not an import"
    ctx = multiprocessing.get_context('forkserver')
    ctx.set_forkserver_preload(['imagenet_nb.run.plan', 'imagenet_nb.run.ranks', 'torch._dynamo', 'matplotlib.backends.backend_agg'])
    return ctx

@pytest.fixture
def photos():
    "The folder of Imagenette photographs"
    where = os.environ.get('IMAGENETTE_DIR')
    if not where: pytest.skip('IMAGENETTE_DIR names no folder of photographs')
    return Path(where)

@pytest.fixture
def call(tmp_path):
    "Call `python train.py …` in a folder of its own"
    def f(*words, script=root/'train.py', **kw):
        return subprocess.run([sys.executable, str(script), *map(str, words)], cwd=tmp_path, capture_output=True, text=True, timeout=600, **kw)
    return f
