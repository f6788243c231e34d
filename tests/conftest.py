"What the tests share: where the photographs are, and how a command is called."
import os, subprocess, sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent

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
