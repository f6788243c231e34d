"The command as a person calls it, on real data, in a process of its own."
import json, os, signal, subprocess, sys
import pytest
from conftest import root, until

same = lambda h: {k: v for k,v in h.items() if k not in ('seconds', 'images_per_second', 'data_wait_share')}

def test_shim_and_console_script_are_the_same(call):
    a = call('--help')
    b = subprocess.run(['imagenet_train', '--help'], capture_output=True, text=True)
    assert a.returncode == b.returncode == 0 and a.stdout == b.stdout and '--label-smoothing' in a.stdout

def test_a_run_leaves_its_files(call, tmp_path):
    r = call('--preset', 'quickstart', '--model', 'wideresnet10-1', '--epochs', 2, '--checkpoint-dir', 'run')
    assert r.returncode == 0, r.stderr
    assert '\r' not in r.stdout and 'run/best_model.pth' in r.stdout
    files = {p.name for p in (tmp_path/'run').iterdir()}
    assert files == {'metrics.json', 'training_curves.png', 'best_model.pth', 'config.json', 'README.md', 'training_state_epoch1.pth', 'training_state_epoch2.pth'}
    h = json.loads((tmp_path/'run'/'metrics.json').read_text())
    for k in ('epochs', 'train_losses', 'test_losses', 'train_accuracies', 'test_accuracies', 'learning_rates', 'test_top5_accuracies', 'seconds',
              'images_per_second', 'data_wait_share'): assert len(h[k]) == 2, k
    assert h['best_test_accuracy'] == max(h['test_accuracies']) == h['test_accuracies'][h['best_epoch']-1]
    # the run's own config repeats the run
    r = call('--config', 'run/config.json', '--checkpoint-dir', 'again')
    assert r.returncode == 0, r.stderr
    assert same(json.loads((tmp_path/'again'/'metrics.json').read_text())) == same(h)

def test_a_killed_run_leaves_whole_files(tmp_path):
    p = subprocess.Popen([sys.executable, str(root/'train.py'), '--preset', 'quickstart', '--model', 'wideresnet10-1', '--epochs', '50', '--checkpoint-dir', 'run'],
                         cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try: until((tmp_path/'run'/'training_state_epoch2.pth').exists, 'the state of epoch 2')
    finally: p.send_signal(signal.SIGKILL); p.wait()
    import torch
    h = json.loads((tmp_path/'run'/'metrics.json').read_text())
    assert h['epochs'][:2] == [1, 2]
    for f in (tmp_path/'run').glob('*.pth'): torch.load(f, weights_only=True)

@pytest.mark.parametrize('words, said', [
    (['--epochs', '0'], '--epochs 0 is too small'), (['--bach-size', '8'], 'did you mean "--batch-size"?'), (['--dataset', 'imagenet', '--data-dir', 'nowhere'], 'nowhere'),
    (['--preset', 'quickstart', '--num-classes', '7'], '--num-classes 7'), (['--config', 'no.json'], 'no.json')])
def test_a_mistake_is_one_line(call, tmp_path, words, said):
    r = call(*words)
    assert (r.returncode, r.stdout) == (2, '') and said in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
    assert not any(tmp_path.iterdir())

def test_photographs(call, tmp_path, photos):
    "A real ResNet-50 on real photographs, two small epochs of a subset made of links"
    for split,n in (('train', 24), ('val', 8)):
        for c in sorted((photos/split).iterdir()):
            (tmp_path/'data'/split/c.name).mkdir(parents=True)
            for f in sorted(c.iterdir())[:n]: os.symlink(f, tmp_path/'data'/split/c.name/f.name)
    r = call('--model', 'resnet50-pytorch', '--dataset', 'imagenet', '--data-dir', 'data', '--num-classes', 10, '--size', 64, '--epochs', 2,
             '--batch-size', 48, '--scheduler', 'onecycle', '--checkpoint-dir', 'run')
    assert r.returncode == 0, r.stderr
    h = json.loads((tmp_path/'run'/'metrics.json').read_text())
    assert len(h['epochs']) == 2 and all(0 < v < 20 for v in h['train_losses'])
    import torch
    s = torch.load(tmp_path/'run'/'best_model.pth', weights_only=True)
    assert s['class_names'][0] == 'tench' and s['class_ids'][0] == 'n01440764'

def test_the_token_stays_in_memory(tmp_path, monkeypatch, capfd):
    "No file of a run, no export and no copy of a learner holds it, and no line shows it"
    import pickle, torch
    from imagenet_nb.config import Config
    from imagenet_nb.run.learner import imagenet_learner
    from imagenet_nb.flags import presets
    monkeypatch.chdir(tmp_path)
    learn = imagenet_learner(Config(**presets['quickstart'] | dict(model='wideresnet10-1', size=16, epochs=1, T_0=1, num_workers=0, device='cpu', checkpoint_minutes=1e-4,
                                                                    hf_token='swordfish')))
    assert learn.cfg.token == 'swordfish'
    learn.fit_config('run'); learn.path = tmp_path
    learn.export('learner.pkl'); learn.save('weights'); torch.save(learn.cfg, 'cfg.pth')
    (tmp_path/'dls.pkl').write_bytes(pickle.dumps(learn.dls.train.new(num_workers=0).dataset)); print(learn.cfg, vars(learn.cfg))
    files = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert len(files) > 9 and not [p.name for p in files if b'swordfish' in p.read_bytes()]
    assert 'swordfish' not in ''.join(capfd.readouterr())
