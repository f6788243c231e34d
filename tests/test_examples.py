"Every example command of the specification's document, except those for several GPUs and for the gated dataset, is planned with --dry-run; six are trained."
import json, os, re, shlex, shutil
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
    return [f for i,f in enumerate(found) if not {'--multi-gpu', 'imagenet-1k'} & set(f) and f not in found[:i]]

@pytest.fixture(scope='module')
def data(tmp_path_factory): return tree(tmp_path_factory.mktemp('d')/'data', [f'c{i}' for i in range(10)], (26, 2))

@pytest.mark.skipif(not spec.exists(), reason='the specification lies beside the repository, not in it')
@pytest.mark.parametrize('where', ['an empty folder', 'the repository'])
def test_every_example_is_planned(data, where, tmp_path, monkeypatch, capsys):
    "Also where the repository's own config.json lies, which applies to every command that names no other"
    monkeypatch.chdir(tmp_path)
    if where == 'the repository': shutil.copy(root/'config.json', tmp_path)
    todo = examples()
    assert len(todo) >= 9
    for i,argv in enumerate(todo):
        argv[argv.index('--data-dir')+1] = str(data)
        if '--model' in argv and '--device' in argv and argv[argv.index('--device')+1] == 'mps': argv[argv.index('mps')] = 'cpu' # for Macs; planned here on a CPU
        if i: argv += ['--size', '96'] # the same model, but its step is timed in a fifth of the time
        train_command(argv + ['--dry-run', '--json'])
        plan = json.loads(capsys.readouterr().out)
        said = dict(zip(argv[::2], argv[1::2]))
        assert (plan['classes'], plan['train_items'], plan['valid_items'], plan['params']) == (10, 260, 20, 23_528_522)
        assert len(plan['lr']) == int(said['--epochs']) == plan['config']['run']['epochs'] and all(r > 0 for r in plan['lr'])
        assert plan['steps_per_epoch'] == -(-260//int(said['--batch-size'])) and plan['precision']
        if where == 'the repository' and '--scheduler' not in argv: assert max(plan['lr']) == .1
    assert not [p for p in tmp_path.iterdir() if p.name != 'config.json']

six = { # what makes each of them special → its own words
    'quick test, one-cycle': {'--scheduler': 'onecycle', '--epochs': '20'}, 'LR finder': {'--lr-finder': None, '--epochs': '20'}, 'cosine': {'--scheduler': 'cosine'},
    'target accuracy': {'--target-accuracy': '75.0'}, 'weak, no MixUp': {'--augmentation': 'weak'}, 'CPU': {'--device': 'cpu'}, 'minimal': {'--augmentation': 'none'}}

@pytest.mark.skipif(not spec.exists(), reason='the specification lies beside the repository, not in it')
@pytest.mark.parametrize('name', six)
def test_examples_train(name, photos, tmp_path, monkeypatch, capsys):
    "The command as printed, on 160 photographs at 32 px for two epochs instead of twenty or ninety"
    argv = next(a for a in examples() if all(k in a and (v is None or a[a.index(k)+1] == v) for k,v in six[name].items()))
    for split,n in (('train', 16), ('val', 4)):
        for c in sorted((photos/split).iterdir()):
            (tmp_path/'data'/split/c.name).mkdir(parents=True)
            for f in sorted(c.iterdir())[:n]: os.symlink(f, tmp_path/'data'/split/c.name/f.name)
    monkeypatch.chdir(tmp_path)
    argv[argv.index('--data-dir')+1],argv[argv.index('--epochs')+1] = 'data','2'
    argv[argv.index('--batch-size')+1] = '40'
    (tmp_path/'config.json').write_text('{"lr_finder": {"num_epochs": 4, "batches_per_epoch": 4}}')
    train_command(argv + ['--size', '32'])
    h = json.loads((tmp_path/'checkpoint_1'/'metrics.json').read_text())
    assert h['epochs'] == [1, 2] and all(0 < v < 20 for v in h['train_losses']) and 'best test accuracy' in capsys.readouterr().out
    assert (tmp_path/'checkpoint_1'/'lr_finder_results.json').exists() == ('--lr-finder' in argv)
