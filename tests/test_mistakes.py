"Wrong inputs: each is one clear line that names the flag or the path, exit code 2, and nothing left behind."
import json, os, shutil, subprocess, sys
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
from imagenet_nb.cli import train_command

def tree(root, classes=('ant', 'bee', 'cat'), n=(4, 2)):
    "A tiny folder of photographs"
    rng = np.random.RandomState(0)
    for split,k in zip(('train', 'val'), n):
        for c in classes:
            (root/split/c).mkdir(parents=True)
            for i in range(k): Image.fromarray(rng.randint(0, 255, (40, 40, 3), dtype=np.uint8)).save(root/split/c/f'{i}.JPEG')
    return root

def folder(change):
    "A folder that `change` has broken"
    def make(tmp):
        root = tree(tmp/'data')
        change(root)
        return ['--dataset', 'imagenet', '--data-dir', str(root), '--model', 'timm/resnet10t', '--size', '32', '--batch-size', '4', '--epochs', '1']
    return make

def config(text):
    "A JSON file with this content"
    def make(tmp):
        (tmp/'c.json').write_text(text if isinstance(text, str) else json.dumps(text))
        return ['--preset', 'quickstart', '--config', 'c.json']
    return make

def digits(*words): return lambda tmp: ['--preset', 'quickstart', *words]
def words(*w): return lambda tmp: list(w)
def empty(p): [f.unlink() for f in p.iterdir()]
def flat(r):
    "All validation images in one folder, without their classes"
    for f in sorted((r/'val').rglob('*.JPEG')): f.rename(r/'val'/f'{f.parent.name}_{f.name}')
    for c in ('ant', 'bee', 'cat'): (r/'val'/c).rmdir()

wrong = {
    'epochs zero': (digits('--epochs', '0'), '--epochs 0'),
    'epochs negative': (digits('--epochs', '-3'), '--epochs'),
    'epochs text': (digits('--epochs', 'ten'), "--epochs: invalid int value: 'ten'"),
    'epochs missing': (digits('--epochs'), '--epochs: expected one argument'),
    'batch zero': (digits('--batch-size', '0'), '--batch-size 0'),
    'batch fraction': (digits('--batch-size', '2.5'), '--batch-size'),
    'batch larger than data': (digits('--batch-size', '2000'), '--batch-size 2000 is more than the 1437'),
    'unknown flag': (digits('--bach-size', '8'), 'did you mean "--batch-size"?'),
    'abbreviated flag': (digits('--epoch', '3'), '--epoch is unknown'),
    'stray word': (digits('digits'), 'digits is unknown'),
    'model typo': (digits('--model', 'resnet5O'), 'did you mean "resnet50"?'),
    'wide depth': (digits('--model', 'wideresnet17-2'), 'try wideresnet16-2 or wideresnet22-2'),
    'timm typo': (digits('--model', 'timm/resnt18'), 'timm/resn'),
    'dataset typo': (words('--dataset', 'imagenette2'), 'did you mean "imagenette"?'),
    'scheduler typo': (digits('--scheduler', 'cosin'), 'did you mean "cosine"?'),
    'optimizer typo': (digits('--optimizer', 'sdg'), 'did you mean "sgd"?'),
    'augmentation typo': (digits('--augmentation', 'week'), 'did you mean "weak"?'),
    'device typo': (digits('--device', 'gpu'), '--device "gpu" is unknown'),
    'preset typo': (words('--preset', 'quickstar'), 'did you mean "quickstart"?'),
    'classes wrong': (digits('--num-classes', '11'), '--num-classes 11'),
    'classes one': (digits('--num-classes', '1'), '--num-classes 1 is too small'),
    'alpha zero': (digits('--mixup-alpha', '0'), '--mixup-alpha 0.0'),
    'alpha nan': (digits('--mixup-alpha', 'nan'), '--mixup-alpha'),
    'smoothing one': (digits('--label-smoothing', '1'), '--label-smoothing 1.0 must be less than 1'),
    'clip negative': (digits('--gradient-clip', '-1'), '--gradient-clip'),
    'seed negative': (digits('--seed', '-1'), '--seed'),
    'size tiny': (digits('--size', '4'), '--size 4 is too small'),
    'target alone': (digits('--target-accuracy', '74'), '--enable-target-early-stopping'),
    'enabled alone': (digits('--enable-target-early-stopping'), '--target-accuracy'),
    'target above 100': (digits('--target-accuracy', '740', '--enable-target-early-stopping'), '--target-accuracy 740'),
    'hours zero': (digits('--max-hours', '0'), '--max-hours'),
    'json alone': (digits('--json'), '--json goes with --dry-run'),
    'config missing': (digits('--config', 'no.json'), 'no.json: cannot be read'),
    'config syntax': (config('{"optimizer": {"initial_lr": 0.1,}}'), 'c.json line 1'),
    'config list': (config('[1]'), 'c.json'),
    'config unknown key': (config({'optimizer': {'inital_lr': .1}}), 'did you mean "initial_lr"?'),
    'config type': (config({'scheduler': {'cosine': {'T_0': '30'}}}), 'scheduler.cosine.T_0'),
    'config zero T_0': (config({'scheduler': {'cosine': {'T_0': 0}}}), 'scheduler.cosine.T_0'),
    'config fraction T_0': (config({'scheduler': {'cosine': {'T_0': 2.5}}}), 'scheduler.cosine.T_0'),
    'config warmup too long': (config({'scheduler': {'cosine': {'warmup_epochs': 12}}}), 'warmup_epochs in c.json 12'),
    'config section': (config({'optimizer': 3}), 'optimizer in c.json'),
    'config finder rates': (config({'lr_finder': {'start_lr': 1, 'end_lr': .1}}), 'lr_finder.start_lr'),
    'config finder method': (config({'lr_finder': {'selection_method': 'steepest'}}), 'steepest_gradient'),
    'config pct_start': (config({'scheduler': {'onecycle': {'pct_start': 1.5}}}), 'pct_start'),
    'config is a folder': (lambda tmp: ['--preset', 'quickstart', '--config', str(tmp)], '--config'),
    'folder absent': (
        words('--dataset', 'imagenet', '--data-dir', 'nowhere'),
        '--data-dir nowhere: there is no such folder'),
    'folder empty': (
        folder(lambda r: [shutil.rmtree(r/s) for s in ('train', 'val')]),
        'expected are the folders train/'),
    'no val': (folder(lambda r: shutil.rmtree(r/'val')), 'no val/ beside it'),
    'empty class': (folder(lambda r: empty(r/'train'/'bee')), 'no images in train/bee'),
    'class missing in val': (folder(lambda r: shutil.rmtree(r/'val'/'cat')), 'different classes, such as cat'),
    'one class': (
        folder(lambda r: [shutil.rmtree(r/s/c) for s in ('train', 'val') for c in ('ant', 'bee')]),
        'one class only'),
    'class folder as root': (
        lambda tmp: ['--dataset', 'imagenet', '--data-dir', str(tree(tmp/'data')/'train'/'ant')],
        'images lie directly in it'),
    'train as root': (
        lambda tmp: ['--dataset', 'imagenet', '--data-dir', str(tree(tmp/'data')/'train')],
        'give the folder above it'),
    'a file as root': (
        lambda tmp: ['--dataset', 'imagenet', '--data-dir', str(next((tree(tmp/'data')/'train'/'ant').iterdir()))],
        '--data-dir'),
    'archive absent': (words('--dataset', 'cifar10', '--data-dir', 'none'), 'CIFAR10 is not there'),
    'repository name': (digits('--hf-repo', 'me/my model'), '--hf-repo "me/my model" cannot be'),
    'repository path': (digits('--hf-repo', 'a/b/c'), '--hf-repo "a/b/c"'),
    'pretrained without': (digits('--pretrained'), '--pretrained: there are no published weights for wideresnet16-2'),
    'two origins': (
        digits('--model', 'resnet50-pytorch', '--pretrained', '--init-from', 'x.pth'),
        '--pretrained and --init-from'),
    'init absent': (digits('--init-from', 'no.pth'), '--init-from no.pth: there is no such file'),
    'init no weights': (
        lambda tmp: (tmp/'w.pth').write_bytes(b'x') and ['--preset', 'quickstart', '--init-from', 'w.pth'],
        'w.pth: not a readable'),
    'launcher missing': (digits('--multi-gpu'), '--multi-gpu needs a launcher: torchrun'),
    'sync alone': (digits('--sync-bn'), '--sync-bn needs --multi-gpu'),
    'bar interval': (config({'progress_bar': {'mininterval': 'often'}}), 'progress_bar.mininterval in c.json'),
    'bar key': (config({'progress_bar': {'miniter': 5}}), 'did you mean "miniters"?'),
    'flat val': (folder(lambda r: flat(r)), 'no class folders, and no file says what they are'),
    'one label': (
        folder(lambda r: (flat(r), (r/'val.txt').write_text('\n'.join(f'{c}_{i}.JPEG 0' for c in ('ant','bee','cat') for i in range(2))))),
        'the same label, ant'),
    'size for the model': (
        digits('--model', 'timm/inception_v3', '--batch-size', '4'),
        '--size 32: timm/inception_v3 does not take images of 32 px'),
    'empty word': (digits(''), '"" is unknown'),
    'empty folder name': (digits('--checkpoint-dir', ''), '--checkpoint-dir is empty'),
    'epochs without end': (digits('--epochs', '9'*20), '--epochs 99999999999999999999 is too large: at most 100000'),
    'size without end': (digits('--size', '100000'), '--size 100000 is too large: at most 4096'),
    'section typo': (
        config({'scheduler': {'cosin': {'T_0': 3}}}),
        'scheduler.cosin in c.json is unknown (did you mean "cosine"?)'),
    'key twice': (
        lambda tmp: (tmp/'c.json').write_text('{"optimizer": {"momentum": 0.5, "momentum": 0.9}}') and ['--preset', 'quickstart', '--config', 'c.json'],
        '"momentum" stands twice'),
    'state absent': (
        digits('--resume-from', 'run/training_state_epoch3.pth'),
        '--resume-from run/training_state_epoch3.pth: there is no such file'),
    'output is a file': (
        lambda tmp: (tmp/'f').touch() or ['--preset', 'quickstart', '--checkpoint-dir', 'f/x'],
        '--checkpoint-dir f/x'),
    'config empty name': (digits('--config', ''), '--config is empty'),
    'config binary': (lambda tmp: (tmp/'c.json').write_bytes(b'\xff\xfe\x00') and ['--config', 'c.json'], 'c.json: cannot be read'),
    'config true for a number': (config({'optimizer': {'momentum': True}}), 'optimizer.momentum in c.json: True must be a number'),
    'config NaN': (config('{"optimizer": {"initial_lr": NaN}}'), 'optimizer.initial_lr in c.json nan is not a finite number'),
    'config 400 digits': (config('{"optimizer": {"initial_lr": ' + '9'*400 + '}}'), 'a number of 400 digits is too large'),
    'config 5000 digits': (config('{"optimizer": {"initial_lr": ' + '9'*5000 + '}}'), 'too many digits'),
    'config lowest above highest': (config({'scheduler': {'cosine': {'eta_min': 1.}}}), 'is more than the highest rate'),
    'config finder steps': (
        lambda tmp: config({'lr_finder': {'batches_per_epoch': 3}})(tmp) + ['--lr-finder'], 'lr_finder: 3 steps say nothing'),
    'line break in a key': (config({'optimizer': {'a\nb': 1}}), 'optimizer.a\\nb in c.json is unknown'),
    'line break in a model': (digits('--model', 'res\nnet'), '--model "res\\nnet" is unknown'),
    'long dash': (digits('\u2014epochs', '3'), '\u2014epochs is unknown (did you mean "--epochs"?)'),
    'model without end': (digits('--model', 'wideresnet10-99999'), 'larger than any machine'),
    'share above one': (digits('--max-bad-files', '2'), '--max-bad-files 2.0 is too large: at most 1'),
    'repository of git': (digits('--hf-repo', 'me/net.git'), '--hf-repo "me/net.git" cannot be'),
    'resume from a text': (lambda tmp: (tmp/'a.txt').touch() or ['--preset', 'quickstart', '--resume-from', 'a.txt'], 'a.txt: this is a file, but not a state'),
    'resume below a file': (lambda tmp: (tmp/'f').touch() or ['--preset', 'quickstart', '--resume-from', 'f/x'], 'f is a file'),
    'resume from a folder.pth': (lambda tmp: (tmp/'x.pth').mkdir() or ['--preset', 'quickstart', '--resume-from', 'x.pth'], 'x.pth: this is a folder'),
    'resume from rubbish': (
        lambda tmp: (tmp/'x.pth').write_bytes(b'x') and ['--preset', 'quickstart', '--resume-from', 'x.pth', '--dry-run'], 'x.pth: not a readable checkpoint'),
    'name without end': (words('--dataset', 'imagenet', '--data-dir', 'x'*5000), 'File name too long'),
    'a file for a folder': (lambda tmp: (tmp/'f').touch() or ['--dataset', 'imagenet', '--data-dir', 'f'], '--data-dir f: this is a file'),
    'one folder too deep': (
        folder(lambda r: [((r/'train'/'bee'/'sub').mkdir(), f.rename(r/'train'/'bee'/'sub'/f.name)) for f in sorted((r/'train'/'bee').iterdir())[:1]]
               and [f.rename(r/'train'/'bee'/'sub'/f.name) for f in sorted((r/'train'/'bee').glob('*.JPEG'))]), 'they lie one folder too deep'),
    'output holds a run': (
        lambda tmp: (tmp/'r').mkdir() or (tmp/'r'/'metrics.json').touch() or ['--preset', 'quickstart', '--checkpoint-dir', 'r'],
        'there is a run in it already'),
}

@pytest.mark.parametrize('name', wrong)
def test_wrong_input(name, tmp_path, monkeypatch, capsys):
    make,said = wrong[name]
    monkeypatch.chdir(tmp_path)
    argv = make(tmp_path)
    before = sorted(map(str, tmp_path.rglob('*')))
    with pytest.raises(SystemExit) as e: train_command(argv)
    out,err = capsys.readouterr()
    assert (e.value.code, out) == (2, '')
    assert err.startswith('error: ') and said in err and len(err.splitlines()) == 1, err
    assert sorted(map(str, tmp_path.rglob('*'))) == before

def test_unwritable_output(tmp_path, monkeypatch, capsys):
    (tmp_path/'ro').mkdir(mode=0o555)
    if os.geteuid() == 0 and subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', str(tmp_path/'ro')], capture_output=True).returncode: pytest.skip('root may write everywhere, and no read-only disk could be mounted')
    monkeypatch.chdir(tmp_path)
    try:
        with pytest.raises(SystemExit) as e: train_command(['--preset', 'quickstart', '--checkpoint-dir', 'ro/x'])
        assert e.value.code == 2 and 'cannot be written to' in capsys.readouterr().err
    finally: subprocess.run(['umount', str(tmp_path/'ro')], capture_output=True)

@pytest.mark.parametrize('what', ['data', 'data/train', 'data/val/bee'])
def test_a_folder_that_may_not_be_read(what, tmp_path):
    "Even root keeps to the permissions once it has given up its privileges"
    tree(tmp_path/'data')
    argv = [sys.executable, '-c', 'from imagenet_nb.cli import train_command; train_command()', '--dataset', 'imagenet', '--data-dir', 'data']
    if os.geteuid() == 0:
        if not shutil.which('setpriv'): pytest.skip('root may read everything, and setpriv is not installed')
        argv = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', *argv]
    (tmp_path/what).chmod(0)
    try: r = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, env=os.environ | dict(XDG_CACHE_HOME=str(tmp_path/'c')))
    finally: (tmp_path/what).chmod(0o755)
    assert r.returncode == 2 and '--data-dir data: ' in r.stderr and 'Permission denied' in r.stderr, r.stderr
    assert len(r.stderr.splitlines()) == 1

def test_no_gpu_is_one_line(tmp_path, monkeypatch, capsys):
    import torch
    if torch.cuda.is_available(): pytest.skip('this machine has a GPU')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as e: train_command(['--preset', 'quickstart', '--device', 'cuda'])
    assert e.value.code == 2 and '--device cuda' in capsys.readouterr().err

def test_unknown_section_is_only_told(tmp_path, monkeypatch, capsys):
    (tmp_path/'c.json').write_text('{"notes": {"by": "me"}} // a note')
    monkeypatch.chdir(tmp_path)
    train_command(['--preset', 'quickstart', '--model', 'wideresnet10-1', '--config', 'c.json', '--dry-run'])
    out,err = capsys.readouterr()
    assert 'the section "notes" is unknown and ignored' in err and 'wideresnet10-1' in out

@pytest.mark.parametrize('name', ['epochs zero', 'unknown flag', 'config syntax', 'config zero T_0', 'folder absent', 'no val', 'train as root', 'class folder as root', 'repository name', 'init absent', 'launcher missing', 'output holds a run', 'preset typo', 'state absent'])
def test_found_before_torch(name, tmp_path):
    "What can be found in the first second does not wait for torch"
    argv = wrong[name][0](tmp_path)
    code = f'import sys\nfrom imagenet_nb.cli import train_command\ntry: train_command({argv!r})\nfinally: print("torch" in sys.modules)'
    r = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert (r.returncode, r.stdout) == (2, 'False\n') and wrong[name][1] in r.stderr
