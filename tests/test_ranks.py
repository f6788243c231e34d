"Real ranks: two processes under torchrun, on the CPU, with unequal shares of the data."
import json, signal, subprocess, sys, time
from pathlib import Path
import pytest
from conftest import root

code = '''
import json, os, sys, torch, torch.distributed as dist
from types import SimpleNamespace
from imagenet_nb.core import all_sum, barrier, rank, world_size
from imagenet_nb.history import SumLoss
from imagenet_nb.mixup import Accuracy, TopK
dist.init_process_group('gloo')
gen = torch.Generator().manual_seed(0)
pred,y = torch.randn(107, 10, generator=gen), torch.randint(0, 10, (107,), generator=gen)
mine = slice(0, 70) if rank() == 0 else slice(70, 107)
out = dict(rank=rank(), world=world_size(), sum=all_sum(torch.tensor([rank()+1.])).item())
loss = torch.nn.functional.cross_entropy
for m in (SumLoss(), Accuracy(), TopK(5)):
    m.reset()
    for p,t in zip(pred[mine].split(16), y[mine].split(16)): m.accumulate(SimpleNamespace(pred=p, y=t, yb=(t,), loss=loss(p, t)))
    out[m.name] = m.value
out['want'] = dict(loss=loss(pred.double(), y).item(), accuracy=(pred.argmax(1)==y).float().mean().item(), top5=(pred.topk(5)[1]==y[:,None]).any(1).float().mean().item())
barrier()
open(f"{sys.argv[1]}/{rank()}.json", "w").write(json.dumps(out))
dist.destroy_process_group()
'''

def test_sums_cross_the_ranks(tmp_path):
    (tmp_path/'ranks.py').write_text(code)
    r = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29611', 'ranks.py', str(tmp_path)],
                       cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-3000:]
    for i in range(2):
        o = json.loads((tmp_path/f'{i}.json').read_text())
        assert (o['rank'], o['world'], o['sum']) == (i, 2, 3.0)
        assert o['want']['accuracy'] > 0
        for k,v in o['want'].items(): assert o[k] == pytest.approx(v, rel=1e-6), k

def test_the_command_on_two_ranks(tmp_path):
    "One run by two processes: one set of files, and the best model tests as well alone as it did among them"
    run = lambda *words: subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29612', str(root/'train.py'), '--preset', 'quickstart',
                                         '--model', 'wideresnet10-1', *words], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    r = run('--epochs', '3', '--multi-gpu', '--lr-finder')
    assert r.returncode == 0, r.stderr[-3000:]
    assert [l.split()[1] for l in r.stdout.splitlines() if l.startswith('epoch ')] == ['1/3', '2/3', '3/3'] and 'Warning' not in r.stderr, r.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['checkpoint_1']
    from imagenet_nb.learner import imagenet_learner, load_model
    from imagenet_nb.config import Config
    from imagenet_nb.recipe import load_config
    h,(model,state) = json.loads((tmp_path/'checkpoint_1'/'metrics.json').read_text()),load_model(tmp_path/'checkpoint_1')
    learn = imagenet_learner(Config(**load_config(tmp_path/'checkpoint_1'/'config.json')))
    learn.model.load_state_dict(model.state_dict())
    with learn.no_bar(), learn.no_logging(): assert 100*learn.validate()[1] == pytest.approx(h['best_test_accuracy'], abs=.3) # bf16 in other batches
    r = run('--epochs', '3')
    assert r.returncode != 0 and 'add --multi-gpu' in r.stderr and 'checkpoint_2' not in {p.name for p in tmp_path.iterdir()}
    r = run('--epochs', '3', '--multi-gpu', '--sync-bn', '--device', 'cpu')
    assert r.returncode != 0 and '--sync-bn: PyTorch synchronizes batch normalization on CUDA only' in r.stderr

def test_a_mistake_of_one_rank_is_told(tmp_path):
    "A broken file stops whichever rank meets it, and with it the run; what was wrong is on the screen, once"
    from test_mistakes import tree
    data = tree(tmp_path/'data', n=(8, 4))
    broken = data/'train'/'bee'/'3.JPEG'
    broken.write_bytes(broken.read_bytes()[:200])
    for seed in ('0', '1'): # whose share it is in follows from the seed
        r = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29614', str(root/'train.py'), '--dataset', 'imagenet', '--data-dir', str(data),
                            '--model', 'timm/resnet10t', '--size', '32', '--batch-size', '8', '--epochs', '1', '--seed', seed, '--multi-gpu', '--max-bad-files', '0'],
                           cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert r.returncode != 0 and r.stderr.count('1 of 36 files cannot be read') == 1, r.stderr[-3000:]

def test_two_ranks_go_on_exactly(tmp_path):
    "SIGTERM to the launcher in the middle of an epoch: both ranks stop after the same step, and the run ends as the undisturbed one does"
    def start(folder):
        return subprocess.Popen([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29613', str(root/'train.py'), '--preset', 'quickstart', '--model', 'wideresnet10-1',
                                 '--epochs', '3', '--multi-gpu', '--resume-from', folder], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    whole = start('whole'); assert whole.wait(300) == 0, whole.stdout.read()[-3000:]
    p,end = start('run'),time.time()+120
    while not (tmp_path/'run'/'training_state_epoch1.pth').exists() and time.time() < end: time.sleep(.02)
    time.sleep(.6)
    p.send_signal(signal.SIGTERM); p.wait(60)
    assert list((tmp_path/'run').glob('training_state_epoch2_step*.pth')), p.stdout.read()[-3000:]
    p = start('run'); out = p.communicate(timeout=300)[0]
    assert p.returncode == 0 and 'going on from run/training_state_epoch2_step' in out, out[-3000:]
    a,b = (json.loads((tmp_path/o/'metrics.json').read_text()) for o in ('whole', 'run'))
    from imagenet_nb.history import time_keys
    for k in a.keys()-set(time_keys): assert a[k] == b[k], k
