"Every example command of the specification's document, except those for several GPUs and for the Hub, is planned with --dry-run."
import json, re, shlex
from pathlib import Path
import pytest
from imagenet_nb.cli import train_command
from conftest import root
from test_mistakes import tree

spec = root.parent/'shared'/'spec'/'training-framework.md'

def examples():
    "The `python train.py` commands of the document, as lists of words"
    text = re.sub(r'\\\n\s*', '', spec.read_text())
    found = [shlex.split(l.strip(), comments=True)[2:] for l in text.splitlines() if l.strip().startswith('python train.py')]
    return [f for i,f in enumerate(found) if not {'--multi-gpu', '--hf-token', '--hf-repo', '--resume-from'} & set(f) and f not in found[:i]]

@pytest.fixture(scope='module')
def data(tmp_path_factory): return tree(tmp_path_factory.mktemp('d')/'data', [f'c{i}' for i in range(10)], (26, 2))

@pytest.mark.skipif(not spec.exists(), reason='the specification lies beside the repository, not in it')
def test_every_example_is_planned(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    todo = examples()
    assert len(todo) >= 9
    for argv in todo:
        argv[argv.index('--data-dir')+1] = str(data)
        if '--model' in argv and '--device' in argv and argv[argv.index('--device')+1] == 'mps': argv[argv.index('mps')] = 'cpu' # for Macs; planned here on a CPU
        train_command(argv + ['--dry-run', '--json'])
        plan = json.loads(capsys.readouterr().out)
        said = dict(zip(argv[::2], argv[1::2]))
        assert (plan['classes'], plan['train_items'], plan['valid_items'], plan['params']) == (10, 260, 20, 23_528_522)
        assert len(plan['lr']) == int(said['--epochs']) == plan['config']['run']['epochs'] and all(r > 0 for r in plan['lr'])
        assert plan['steps_per_epoch'] == -(-260//int(said['--batch-size'])) and plan['precision']
    assert not any(tmp_path.iterdir())
