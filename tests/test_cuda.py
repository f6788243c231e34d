"What only a GPU can show; `make gpu` runs it on one (and, with IMAGENET_NB_DEVICE=cuda, every cell of test_combinations.py)"
import collections, os, subprocess, sys, warnings
import pytest, torch
from fastai.callback.core import Callback
from conftest import root
from imagenet_nb.config import Config
from imagenet_nb.callback.guard import FiniteLoss
from imagenet_nb.run.learner import imagenet_learner
from imagenet_nb.callback.precision import choose_device
from imagenet_nb.core import UserError
from imagenet_nb.flags import presets

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason='PyTorch sees no CUDA device')]

def learner(**kw):
    return imagenet_learner(Config(**presets['quickstart'] | dict(model='wideresnet10-1', size=32, epochs=2, batch_size=64, num_workers=0, device='cuda') | kw))

class Waits(Callback):
    "Note each line at which a step of training waits for the device; the first steps set things up"
    run_valid,order = False,-100
    def __init__(self, first=3, last=20): self.first,self.last,self.lines,self.steps,self.caught = first,last,collections.Counter(),0,None
    def before_batch(self):
        if self.iter == self.first: # up to the same moment of a later step, so that the loader and all callbacks are within
            self.caught = warnings.catch_warnings(record=True)
            self.said = self.caught.__enter__()
            warnings.simplefilter('always')
            torch.cuda.set_sync_debug_mode('warn')
        elif self.iter == self.last: self.close()
    def close(self):
        if self.caught is None: return
        torch.cuda.set_sync_debug_mode('default')
        self.caught.__exit__(None, None, None)
        self.lines.update(f'{os.path.relpath(w.filename, root)}:{w.lineno}' for w in self.said if 'synchroniz' in str(w.message))
        self.steps,self.caught = self.last-self.first,None
    def after_cancel_fit(self): self.close()

@pytest.mark.parametrize('kw', [{}, dict(mixup_per_image=True), dict(mixup=False, label_smoothing=0., gradient_clip=0.), dict(amp=False), dict(precision='fp16'), dict(scheduler='onecycle', max_lr=.1), dict(optimizer='adamw'),
                                dict(ema=.99), dict(accumulate=2), dict(compile=True)],
                         ids=lambda kw: ', '.join(kw) or 'default')
def test_no_step_waits(kw):
    "Of the command's own fit, from the loader to the recorder; what is shown now and then is shown later"
    learn = learner(mininterval=3600., **kw)
    learn.fit(1, cbs=(w := Waits()))
    assert w.steps == 17 and dict(w.lines) == {}, w.lines

def test_waits_are_seen():
    "The test above can fail"
    class Reads(Callback):
        run_valid = False
        def after_loss(self): float(self.loss_grad)
    learn = learner(mininterval=3600.)
    learn.fit(1, cbs=[w := Waits(), Reads()])
    assert sum(w.lines.values()) >= w.steps

@pytest.mark.parametrize('precision', ['auto', 'fp16', 'fp32'])
@pytest.mark.parametrize('optimizer', ['sgd', 'adamw'])
def test_a_batch_without_a_number_leaves_nothing_behind(precision, optimizer):
    "Weights and running statistics stay; the loss of the epoch is one"
    class Poison(Callback):
        run_valid = False
        def before_batch(self):
            if self.iter not in (4, 5): return
            self.learn.xb = (self.xb[0]*float('nan'),)
            if self.iter == 4: self.kept = {k: v.clone() for k,v in self.model.state_dict().items()}
        def after_batch(self):
            if self.iter == 5: self.same = all(torch.equal(v, self.kept[k]) for k,v in self.model.state_dict().items())
    learn = learner(precision=precision, optimizer=optimizer, initial_lr=.01)
    learn.fit(1, cbs=(p := Poison()))
    guard = next(o for o in learn.cbs if isinstance(o, FiniteLoss))
    assert p.same and int(guard.skipped) == 2
    assert all(v == v for v in learn.recorder.values[-1]) and all(bool(v.isfinite().all()) for v in learn.model.state_dict().values())

@pytest.mark.parametrize('precision', ['auto', 'fp16', 'fp32'])
def test_precision_and_memory_format(precision):
    learn = learner(precision=precision)
    seen = []
    class Look(Callback):
        run_valid = False
        def after_pred(self): seen.append((self.xb[0].is_contiguous(memory_format=torch.channels_last), self.pred.dtype, self.model.training, torch.backends.cudnn.benchmark))
    learn.fit(1, cbs=Look())
    assert set(seen) == {(True, torch.float32, True, True)} and not torch.backends.cudnn.benchmark
    plan = learn.precision.current
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert plan.dtype == {'auto': torch.bfloat16 if native else torch.float16, 'fp16': torch.float16, 'fp32': None}[precision]
    assert plan.scaler == (plan.dtype == torch.float16) and (not plan.scaler or learn.precision.scaler.get_scale() > 0)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in learn.model.parameters() if p.ndim == 4)
    assert all(pg['fused'] for pg in learn.opt.param_groups)

@pytest.mark.parametrize('kw', [{}, dict(ema=.9, accumulate=2), dict(precision='fp16'), dict(precision='fp32')], ids=lambda kw: ', '.join(kw) or 'default')
def test_deterministic_fits_are_equal(kw):
    "To the last bit, and so is one that goes on (tests/test_combinations.py has the events)"
    first,second = (learner(deterministic=True, **kw) for _ in range(2))
    for o in (first, second): o.fit(2)
    for (k,a),b in zip(first.model.state_dict().items(), second.model.state_dict().values()): assert torch.equal(a, b), k
    assert not torch.are_deterministic_algorithms_enabled()

def test_compiled_learns_the_same():
    plain,compiled = learner(precision='fp32'),learner(precision='fp32', compile=True)
    for o in (plain, compiled): o.fit(2)
    assert list(plain.model.state_dict()) == list(compiled.model.state_dict()) and 'forward' not in vars(compiled.model)
    assert compiled.recorder.values[-1][0] == pytest.approx(plain.recorder.values[-1][0], rel=.02)

def test_devices():
    assert choose_device('auto').type == choose_device('cuda:0').type == 'cuda'
    n = torch.cuda.device_count()
    with pytest.raises(UserError, match=f'there are {n} GPUs'): choose_device(f'cuda:{n}')

def test_out_of_memory_is_one_line(call):
    "With the batch that would fit, and nothing is lost"
    torch.cuda.empty_cache()
    limit = 'import torch, sys; torch.cuda.set_per_process_memory_fraction(.01); from imagenet_nb.cli import train_command; train_command(sys.argv[1:])'
    words = '--preset', 'quickstart', '--model', 'wideresnet28-10', '--size', '64', '--batch-size', '512', '--epochs', '1', '--checkpoint-dir', 'run'
    r = subprocess.run([sys.executable, '-c', limit, *words], cwd=root, capture_output=True, text=True, timeout=300)
    assert r.returncode == 2 and r.stderr.strip().splitlines()[-1].startswith('error: cuda:0 is out of memory with --batch-size 512: '), r.stderr[-3000:]

def test_one_rank_under_torchrun(tmp_path):
    "NCCL, DDP, shares, the sums of the metrics: with one rank it learns what one process learns"
    words = '--preset', 'quickstart', '--model', 'wideresnet10-1', '--size', '32', '--epochs', '2', '--no-amp', '--checkpoint-dir'
    for name,start in (('plain', [sys.executable]), ('rank', [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=1'])):
        r = subprocess.run([*start, str(root/'train.py'), *words, str(tmp_path/name), *['--multi-gpu']*(name == 'rank')], cwd=root, capture_output=True, text=True, timeout=300)
        assert r.returncode == 0, (r.stdout+r.stderr)[-3000:]
    from imagenet_nb.callback.history import read_history
    a,b = (read_history(tmp_path/n) for n in ('plain', 'rank'))
    assert a['learning_rates'] == b['learning_rates'] and b['train_losses'] == pytest.approx(a['train_losses'], rel=.05)

def test_a_snapshot_is_of_its_moment():
    "In pinned memory, and not touched by what the GPU does next"
    from imagenet_nb.model.writer import snapshot
    big = [torch.randn(2000, 2000, device='cuda') for _ in range(20)]
    want = [o.cpu().clone() for o in big]
    kept = snapshot(dict(w=big, last=torch.randn(4, 4, 3, 3, device='cuda').to(memory_format=torch.channels_last)))
    for o in big: o.zero_()
    assert all(a.equal(b) and a.is_pinned() for a,b in zip(kept['w'], want)) and kept['last'].is_contiguous(memory_format=torch.channels_last)
