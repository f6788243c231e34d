"Real ranks: processes under torchrun, on the CPU, with unequal shares of the data."
import json, os, re, signal, subprocess, sys
from pathlib import Path
import pytest
from conftest import root, until

torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone'] # a free port

def ranks(n, script, *words, cwd, timeout=300, **env):
    "Run a script on `n` ranks"
    return subprocess.run([*torchrun, f'--nproc_per_node={n}', str(script), *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=timeout,
                          env=os.environ | env)

code = '''
import json, os, sys, torch, torch.distributed as dist
from types import SimpleNamespace
from imagenet_nb.core import all_sum, barrier, rank, world_size
from imagenet_nb.callback.history import SumLoss
from imagenet_nb.callback.mixup import Accuracy, TopK
dist.init_process_group('gloo')
gen = torch.Generator().manual_seed(0)
pred,y = torch.randn(107, 10, generator=gen), torch.randint(0, 10, (107,), generator=gen)
loss = torch.nn.functional.cross_entropy
def values(mine):
    "What the metrics say where this rank has the items `mine`"
    out = {}
    for m in (SumLoss(), Accuracy(), TopK(5)):
        m.reset()
        for p,t in zip(pred[mine].split(16), y[mine].split(16)):
            if len(p): m.accumulate(SimpleNamespace(pred=p, y=t, yb=(t,), loss=loss(p, t)))
        out[m.name] = m.value
    return out
out = dict(rank=rank(), world=world_size(), sum=all_sum(torch.tensor([rank()+1.])).item())
out['uneven'] = values(slice(0, 70) if rank() == 0 else slice(70, 107))
out['one has none'] = values(slice(0, 107) if rank() == 1 else slice(0, 0))
out['none at all'] = values(slice(0, 0))
out['want'] = dict(loss=loss(pred.double(), y).item(), accuracy=(pred.argmax(1)==y).float().mean().item(), top5=(pred.topk(5)[1]==y[:,None]).any(1).float().mean().item())
barrier()
open(f"{sys.argv[1]}/{rank()}.json", "w").write(json.dumps(out))
dist.destroy_process_group()
'''

def test_sums_cross_the_ranks(tmp_path):
    "Also where a rank has no item, and where no rank has one"
    (tmp_path/'ranks.py').write_text(code)
    r = ranks(2, 'ranks.py', tmp_path, cwd=tmp_path)
    assert r.returncode == 0, r.stderr[-3000:]
    for i in range(2):
        o = json.loads((tmp_path/f'{i}.json').read_text())
        assert (o['rank'], o['world'], o['sum']) == (i, 2, 3.0)
        assert o['want']['accuracy'] > 0
        for which in ('uneven', 'one has none'):
            for k,v in o['want'].items(): assert o[which][k] == pytest.approx(v, rel=1e-6), (which, k)
        assert set(o['none at all'].values()) == {None}

script = '''
"What a person writes: no command line, no process group, only a config"
import json, sys, torch
from pathlib import Path
from fastai.callback.core import Callback
from imagenet_nb.core import rank
from imagenet_nb.config import Config
from imagenet_nb.run.learner import imagenet_learner
from imagenet_nb.flags import presets
from imagenet_nb.callback.schedule import make_schedule

small = presets['quickstart'] | dict(model='wideresnet10-1', size=16, epochs=2, T_0=1, num_workers=0, device='cpu', batch_size=200, multi_gpu=True)
def facts(learn):
    "What all ranks must agree on"
    return dict(weights=sum(v.double().sum().item() for v in learn.model.state_dict().values()), rows=[[v for v in r[:6]] for r in learn.recorder.values],
                finite=all(bool(torch.isfinite(v).all()) for v in learn.model.state_dict().values()))

def one_cycle():
    "1,437 items at 35: 42 batches for one process, 41 for two"
    cfg = Config(**small | dict(scheduler='onecycle', max_lr=.1, batch_size=35))
    learn = imagenet_learner(cfg); n = len(learn.dls.train); learn.fit_config('one_cycle')
    lr = make_schedule(cfg, n)['lr']
    return facts(learn) | dict(steps=n, wrong=sum(abs(a-lr(i)) > 1e-12 for i,a in enumerate(learn.recorder.lrs)), last=learn.recorder.lrs[-1], taken=len(learn.recorder.lrs))

class Poison(Callback):
    "A batch of NaN on one rank"
    run_valid = False
    def before_batch(self):
        if self.train_iter == 3 and rank() == 1: self.learn.xb = (self.x*float('nan'),)

def nan(wait=None):
    learn = imagenet_learner(Config(**small))
    learn.finite_loss.wait = wait
    learn.fit_config(f'nan_{wait}', cbs=Poison())
    return facts(learn) | dict(skipped=int(learn.finite_loss.skipped))

def fine_tuning():
    learn = imagenet_learner(Config(**small | dict(epochs=3, init_from='one_cycle', freeze_epochs=1, multi_gpu=True)))
    body = next(learn.model.parameters()); before,seen = body.detach().clone(),[]
    class Watch(Callback):
        def after_epoch(self): seen.append(torch.equal(body, before))
    learn.fit_config('fine_tuning', cbs=Watch())
    return facts(learn) | dict(body_at_rest=seen, wrapped=type(learn.model).__name__)

def few():
    "Three validation items: with four ranks one has none"
    cfg = Config(**small | dict(epochs=1))
    from imagenet_nb.data.source import get_dls, get_source
    src = get_source(cfg); src.items = src.items[:src.n_train+3]
    learn = imagenet_learner(cfg, get_dls(cfg, src)); learn.fit_config('few')
    return facts(learn) | dict(again=list(learn.validate())[:4])

def nan_on_device(): return nan(wait=False)

def looks():
    "119 items to test in batches of 40, predicted by all and by rank 1 alone; the test is of all together"
    cfg = Config(**small | dict(epochs=1, batch_size=40))
    from imagenet_nb.data.source import get_dls, get_source
    src = get_source(cfg); src.items = src.items[:src.n_train+119]
    learn = imagenet_learner(cfg, get_dls(cfg, src)); learn.fit_config('looks')
    preds,y = learn.get_preds(); tta,_ = learn.tta(n=2)
    if rank() == 1: learn.predict(learn.dls.valid_ds.items[0]); alone = learn.get_preds()[0]
    loss,acc,top5 = learn.validate()
    learn.export(f'learner{rank()}.pkl')
    return facts(learn) | dict(n=len(preds), tta=len(tta), acc=acc, same=abs((preds.argmax(1) == y).float().mean().item()-acc), shard=learn.dls.valid.shard,
                               alone=rank() == 0 or torch.equal(alone, preds))

out = {name: globals()[name]() for name in sys.argv[1].split(',')}
Path(f'{rank()}.json').write_text(json.dumps(out))
'''

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "The script on two ranks"
    d = tmp_path_factory.mktemp('two'); (d/'script.py').write_text(script)
    r = ranks(2, 'script.py', 'one_cycle,nan,nan_on_device,fine_tuning,looks', cwd=d, PYTHONWARNINGS='ignore')
    assert r.returncode == 0, r.stderr[-3000:]
    return d, [json.loads((d/f'{i}.json').read_text()) for i in range(2)], r

def test_a_script_is_one_run(two):
    "`Config(multi_gpu=True)` outside the command line: one run of two ranks, and the rates are those of the steps that are taken"
    d,(a,b),r = two
    for name in a:
        assert a[name]['weights'] == b[name]['weights'] and a[name]['finite'], name
        assert a[name]['rows'] == b[name]['rows'] and None not in sum(a[name]['rows'], []), name
    assert r.stdout.count('epoch 2/2') == 3 and r.stdout.count('epoch 1/1') == 1
    o = a['one_cycle']
    assert (o['steps'], o['taken'], o['wrong']) == (41, 82, 0) and o['last'] < 1e-6

def test_nan_on_one_rank(two):
    "Both leave out that step, whether the flag is read or stays on the device"
    d,(a,b),r = two
    for name in ('nan', 'nan_on_device'): assert a[name]['skipped'] == b[name]['skipped'] == 1
    assert r.stderr.count('1 step of epoch 1 left out') == 2 # said by rank 0 alone
    assert a['nan'] == a['nan_on_device']

def test_fine_tuning_on_two_ranks(two):
    d,(a,b),r = two
    assert a['fine_tuning']['body_at_rest'] == b['fine_tuning']['body_at_rest'] == [True, False, False] and a['fine_tuning']['wrapped'] == 'WideResNet'

def test_looks_on_two_ranks(two):
    "Predictions, test-time augmentation and a test, all of them or one rank alone"
    for i,o in enumerate(two[1]):
        o = o['looks']
        assert (o['n'], o['tta'], o['shard'], o['alone']) == (119, 119, [i, 2], True) and o['same'] < 1e-6

def test_ranks_without_items(tmp_path):
    "Three items to test on four ranks: it ends, and all know the result"
    (tmp_path/'script.py').write_text(script)
    r = ranks(4, 'script.py', 'few', cwd=tmp_path, PYTHONWARNINGS='ignore', OMP_NUM_THREADS='1')
    assert r.returncode == 0, r.stderr[-3000:]
    every = [json.loads((tmp_path/f'{i}.json').read_text())['few'] for i in range(4)]
    assert all(o == every[0] for o in every) and None not in every[0]['rows'][0] and every[0]['rows'][0][4]*3 == pytest.approx(round(every[0]['rows'][0][4]*3))

def test_a_launch_that_is_no_launch(call, tmp_path):
    "Variables of a launcher without a launcher, and processes without `multi_gpu`"
    for env,said in ((dict(RANK='1'), 'RANK is 1, but WORLD_SIZE is not set: unset it'), (dict(RANK='x'), 'RANK is "x", not a number'),
                     (dict(RANK='0', WORLD_SIZE='2'), 'add --multi-gpu'), (dict(RANK='3', WORLD_SIZE='2'), 'RANK is 3, but WORLD_SIZE is 2')):
        r = call('--preset', 'quickstart', '--dry-run', env=os.environ | env)
        assert r.returncode == 2 and said in r.stderr and len(r.stderr.splitlines()) == 1 and r.stdout == '', r.stderr
    (tmp_path/'s.py').write_text(script.replace('multi_gpu=True)', 'multi_gpu=False)', 1))
    r = subprocess.run([sys.executable, 's.py', 'nan'], cwd=tmp_path, capture_output=True, text=True, env=os.environ | dict(RANK='0', WORLD_SIZE='2'))
    assert r.returncode != 0 and '2 processes were launched: add --multi-gpu' in r.stderr and not (tmp_path/'nan_None').exists(), r.stderr[-2000:]

full = '''
import os, signal, sys, torch
from fastai.callback.core import Callback
from imagenet_nb.run import learner
from imagenet_nb.cli import train_command
from imagenet_nb.core import rank
class Full(Callback):
    def after_pred(self):
        if self.training and self.train_iter == int(os.environ['AT']) and rank() == 1: exec(os.environ['WHAT'])
old = learner.training_cbs
learner.training_cbs = lambda *a: [*old(*a), Full()]
train_command(sys.argv[1:])
'''

words = ['--preset', 'quickstart', '--model', 'wideresnet10-1', '--epochs', '3', '--multi-gpu', '--device', 'cpu', '--checkpoint-minutes', '0.0001']

def test_out_of_memory_on_one_rank(tmp_path):
    "It is said, and the others do not wait for ever"
    (tmp_path/'full.py').write_text(full)
    r = ranks(2, 'full.py', *words, '--resume-from', 'run', cwd=tmp_path, AT='60', WHAT='raise torch.OutOfMemoryError("no memory left")')
    assert r.returncode != 0 and 'is out of memory with --batch-size 32' in r.stderr, r.stderr[-3000:]

def test_the_command_on_two_ranks(tmp_path):
    "One run by two processes: one set of files, and the best model tests as well alone as it did among them"
    run = lambda *words: ranks(2, root/'train.py', '--preset', 'quickstart', '--model', 'wideresnet10-1', *words, cwd=tmp_path)
    r = run('--epochs', '3', '--multi-gpu', '--lr-finder')
    assert r.returncode == 0, r.stderr[-3000:]
    assert [l.split()[1] for l in r.stdout.splitlines() if l.startswith('epoch ')] == ['1/3', '2/3', '3/3'] and 'Warning' not in r.stderr, r.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['checkpoint_1']
    from imagenet_nb.run.learner import imagenet_learner, load_model
    from imagenet_nb.config import Config
    from imagenet_nb.flags import load_config
    h,(model,state) = json.loads((tmp_path/'checkpoint_1'/'metrics.json').read_text()),load_model(tmp_path/'checkpoint_1')
    learn = imagenet_learner(Config(**load_config(tmp_path/'checkpoint_1'/'config.json'))) # how it was launched is not what it is
    learn.model.load_state_dict(model.state_dict())
    with learn.no_bar(), learn.no_logging(): assert 100*learn.validate()[1] == pytest.approx(h['best_test_accuracy'], abs=.3) # bf16 in other batches
    r = run('--epochs', '3')
    assert r.returncode != 0 and 'add --multi-gpu' in r.stderr and 'checkpoint_2' not in {p.name for p in tmp_path.iterdir()}
    r = run('--epochs', '3', '--multi-gpu', '--sync-bn', '--device', 'cpu')
    assert r.returncode != 0 and '--sync-bn: PyTorch synchronizes batch normalization on CUDA only' in r.stderr

def test_a_mistake_of_one_rank_is_told(tmp_path):
    "A broken file stops whichever rank meets it, and with it the run; what was wrong is on the screen, once. A test share that is wholly broken ends, too"
    from test_mistakes import tree
    data = tree(tmp_path/'data', n=(8, 4))
    broken = data/'train'/'bee'/'3.JPEG'
    broken.write_bytes(broken.read_bytes()[:200])
    words = ['--dataset', 'imagenet', '--data-dir', data, '--model', 'timm/resnet10t', '--size', '32', '--batch-size', '8', '--epochs', '1', '--multi-gpu']
    for seed in ('0', '1'): # whose share it is in follows from the seed
        r = ranks(2, root/'train.py', *words, '--seed', seed, '--max-bad-files', '0', cwd=tmp_path)
        assert r.returncode != 0 and r.stderr.count('1 of 36 files cannot be read') == 1, r.stderr[-3000:]
    for p in [p for c in ('ant', 'bee') for p in sorted((data/'val'/c).iterdir())]: p.write_bytes(b'') # the first of the two shares of the only batch of 12
    r = ranks(2, root/'train.py', *[w if w != '8' else '24' for w in words], '--max-bad-files', '0.5', '--checkpoint-dir', 'run', cwd=tmp_path)
    assert r.returncode == 0 and len((tmp_path/'run'/'bad_files.txt').read_text().splitlines()) == 9, r.stderr[-3000:]

def test_two_ranks_go_on_exactly(tmp_path):
    "SIGTERM to the launcher in the second epoch: both ranks stop after the same step. An error on one rank, and then SIGKILL of one, in the third: the other ends, too. The run ends as the undisturbed one does"
    (tmp_path/'full.py').write_text(full)
    assert ranks(2, root/'train.py', *words, '--resume-from', 'whole', cwd=tmp_path).returncode == 0
    with open(tmp_path/'log.txt', 'w') as log:
        p = subprocess.Popen([*torchrun, '--nproc_per_node=2', str(root/'train.py'), *words, '--resume-from', 'run'], cwd=tmp_path, stdout=log, stderr=log)
    until(lambda: list((tmp_path/'run').glob('training_state_epoch2_step*.pth')), 'a state within the second epoch')
    p.send_signal(signal.SIGTERM); p.wait(120)
    newest = lambda: max((tmp_path/'run').glob('training_state_epoch*_step*.pth'), key=lambda p: [int(n) for n in re.findall(r'\d+', p.stem)]).name
    for epoch,what in ((2, dict(AT='100', WHAT='raise RuntimeError("of a callback")')), (3, dict(AT='120', WHAT='os.kill(os.getpid(), signal.SIGKILL)')), (3, None)):
        state = newest()
        r = ranks(2, 'full.py' if what else root/'train.py', *words, '--resume-from', 'run', cwd=tmp_path, **what or {})
        assert state.startswith(f'training_state_epoch{epoch}_') and f'going on from run/{state}' in r.stdout and (r.returncode == 0) == (what is None), r.stdout[-3000:]+r.stderr[-3000:]
        assert (tmp_path/'run'/'training_state_epoch3.pth').exists() == (what is None)
    from imagenet_nb.callback.history import time_keys
    a,b = (json.loads((tmp_path/o/'metrics.json').read_text()) for o in ('whole', 'run'))
    for k in a.keys()-set(time_keys): assert a[k] == b[k], k

parts = '''
"One big batch, batches in parts, one rank or two: the same weights, and the ranks add their gradients once a step"
import json, sys, torch
from torch import nn
from fastai.callback.core import Callback
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from imagenet_nb.core import rank
from imagenet_nb.config import Config
from imagenet_nb.run.learner import imagenet_learner
from imagenet_nb.flags import presets

class Count(Callback):
    order,run_valid,n = 20,False,0 # after DDP has wrapped the model
    def before_train(self):
        def counted(state, bucket):
            self.n += 1
            return allreduce_hook(None, bucket)
        if hasattr(self.model, 'register_comm_hook'): self.model.register_comm_hook(None, counted)

def fit(ranks, **kw):
    cfg = Config(**presets['quickstart'] | dict(model='wideresnet10-1', size=16, epochs=1, num_workers=0, device='cpu', batch_size=300, mixup=False, amp=False, multi_gpu=ranks > 1) | kw)
    learn = imagenet_learner(cfg)
    torch.manual_seed(0)
    learn.model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)) # no BatchNorm
    learn.splitter = lambda m: [list(m.parameters())]
    learn.fit(1, lr=.1, cbs=(c := Count()))
    return dict(weights=torch.cat([p.detach().flatten() for p in learn.model.parameters()]).tolist(), added=c.n, row=list(learn.recorder.values[-1][:4]))

n = int(sys.argv[1])
out = {str(k): fit(n, accumulate=k) for k in (1, 3)}
if not rank(): open(f'parts_{n}.json', 'w').write(json.dumps(out))
'''

def test_batches_in_parts(tmp_path):
    (tmp_path/'parts.py').write_text(parts)
    r = subprocess.run([sys.executable, 'parts.py', '1'], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-3000:]
    r = ranks(2, 'parts.py', 2, cwd=tmp_path)
    assert r.returncode == 0, r.stderr[-3000:]
    one,two = (json.loads((tmp_path/f'parts_{n}.json').read_text()) for n in (1, 2))
    for o in (one['3'], two['1'], two['3']):
        assert o['weights'] == pytest.approx(one['1']['weights'], abs=1e-5) and o['row'] == pytest.approx(one['1']['row'], abs=1e-5)
    assert two['1']['added'] == two['3']['added'] == 5, (two['1']['added'], two['3']['added']) # a bucket for each of five steps
