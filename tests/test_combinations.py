"""Every feature of training beside every event that can befall it: whatever happens, the run ends as the undisturbed one does.

    IMAGENET_NB_CELLS=all pytest tests/test_combinations.py   # all 140 cells; else every fifth of them, in which each feature and each event is met
    IMAGENET_NB_DEVICE=cuda …                                 # on a GPU, with its deterministic kernels
"""
import contextlib, dataclasses, io, json, multiprocessing, os, signal
from pathlib import Path
import numpy as np, pytest, torch
from fastai.callback.core import Callback
from fastai.callback.training import GradientAccumulation
from conftest import warm
from imagenet_nb.data import source as data_module
from imagenet_nb.run import learner as learner_module
from imagenet_nb.model.weights import load_tensors
from imagenet_nb.config import Config
from imagenet_nb.callback.history import time_keys
from imagenet_nb.data.image import BadImage
from imagenet_nb.run.learner import imagenet_learner
from imagenet_nb.callback.precision import PrecisionPlan
from imagenet_nb.flags import presets

device = os.environ.get('IMAGENET_NB_DEVICE', 'cpu')
small = presets['quickstart'] | dict(model='wideresnet10-1', size=16, epochs=3, T_0=2, batch_size=64, num_workers=0, device=device,
                                     checkpoint_minutes=1e-4, deterministic=device != 'cpu')
features = {
    'MixUp, smoothing, restarts': {},
    'no MixUp, no smoothing': dict(mixup=False, label_smoothing=0.),
    'MixUp per image': dict(mixup_per_image=True),
    'one-cycle': dict(scheduler='onecycle', max_lr=.1),
    'one cosine, warmup': dict(scheduler='cosine_no_restart', warmup_epochs=1),
    'rate by the epoch': dict(lr_update='epoch'),
    'AdamW': dict(optimizer='adamw', initial_lr=.002),
    'Adam, no clipping': dict(optimizer='adam', initial_lr=.002, gradient_clip=0.),
    'fp32': dict(amp=False),
    'fp16-like scaler': dict(),
    'accumulation': dict(batch_size=32),
    'fine-tuning': dict(freeze_epochs=1, init_from='teacher'),
    'LR finder': dict(lr_finder=True, lr_finder_batches_per_epoch=6, lr_finder_num_epochs=4),
    'early stopping': dict(patience=1, epochs=6, initial_lr=.002, mixup=False, T_0=6),
    'broken files': dict(dataset='imagenet', data_dir='photos', batch_size=24, max_bad_files=.2),
    'two workers': dict(num_workers=2),
    'batches in parts': dict(accumulate=2),
    'averaged weights': dict(ema=.9),
    'growing images': dict(start_size=8, num_workers=1),
    'deterministic kernels': dict(deterministic=True),
}
events = 'SIGKILL', 'error', 'Ctrl-C', 'out of memory', 'NaN and SIGKILL', 'looks', 'another fit'

class At(Callback):
    "Do something at a step of the fit, counted from 0 over all epochs, before the optimizer moves"
    run_valid = False
    def __init__(self, step, what, event='after_pred'): self.step,self.what,self.event = step,what,event
    def _do(self, event):
        if event == self.event and self.train_iter == self.step and not hasattr(self.learn, 'lr_finder'): self.what(self.learn)
    def before_batch(self): self._do('before_batch')
    def after_pred(self): self._do('after_pred')

def poison(learn): learn.xb = (learn.xb[0]*float('nan'),)
def kill(learn): os.kill(os.getpid(), signal.SIGKILL)
def fail(error):
    def raises(learn): raise error
    return raises

digits = data_module.digits_source
def few():
    "A quarter of the handwritten digits"
    s = digits()
    return dataclasses.replace(s, items=np.concatenate([s.items[:359], s.items[s.n_train:s.n_train+90]]), n_train=359)

def make(name):
    "The learner of a feature, in the folder where its data lies, and the callbacks that belong to it"
    data_module.digits_source = few
    cfg = Config(**small | features[name])
    if name == 'fp16-like scaler': learner_module.precision_for = lambda *a: PrecisionPlan(device, torch.bfloat16, scaler=True)
    learn = imagenet_learner(cfg)
    if name == 'fp16-like scaler': learn.precision.scaler = torch.amp.GradScaler(device, init_scale=2.**20, growth_interval=3)
    return learn, [GradientAccumulation(64)]*(name == 'accumulation')

def go(name, folder, *cbs):
    learn,own = make(name)
    learn.fit_config(folder, cbs=[*own, *cbs], resume=True)
    return learn

def child(where, name, folder, cbs):
    "In a process of its own"
    multiprocessing.set_start_method('fork', force=True)
    os.chdir(where); torch.set_num_threads(1)
    with open('log.txt', 'a') as f, contextlib.redirect_stdout(f), contextlib.redirect_stderr(f): go(name, folder, *cbs)

def in_child(where, name, folder, *cbs):
    p = warm().Process(target=child, args=(str(where), name, folder, cbs)); p.start(); p.join(120)
    return p.exitcode

def steps(name): # in an epoch
    return {'accumulation': 12, 'broken files': 3}.get(name, 6)

def outcome(folder):
    "What a run has come to: its record without times, its weights, its optimizer, its callbacks' states"
    h = {k: v for k,v in json.loads((folder/'metrics.json').read_text()).items() if k not in time_keys}
    s = load_tensors(max(folder.glob('training_state_epoch*.pth'), key=lambda p: int(p.stem.rpartition('epoch')[2])))
    calls = {k: v for k,v in s['callbacks'].items() if k != 'recorder'} # which counts seconds
    return h, s['model'], s['optimizer'], calls

def same(a, b):
    if isinstance(a, torch.Tensor): return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b

def differences(a, b): return [what for what,x,y in zip(('record', 'weights', 'optimizer', 'callbacks'), outcome(a), outcome(b)) if not same(x, y)]

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with photographs, some of them broken, and the run whose weights are fine-tuned"
    from test_mistakes import tree
    where = tmp_path_factory.mktemp('combinations')
    data = tree(where/'photos', n=(24, 6))
    for p in list((data/'train').rglob('*.JPEG'))[::30] + [data/'val'/'bee'/'1.JPEG']: p.write_bytes(p.read_bytes()[:200])
    assert in_child(where, 'no MixUp, no smoothing', 'teacher') == 0
    return where

@pytest.fixture
def whole(place, request):
    "The undisturbed run of a feature"
    name = request.node.callspec.params['name']
    folder = f'{list(features).index(name)}_whole'
    if not (place/folder).exists(): assert in_child(place, name, folder) == 0, (place/'log.txt').read_text()[-2000:]
    return place/folder

@contextlib.contextmanager
def quiet(place, monkeypatch):
    monkeypatch.chdir(place)
    for o,k in ((learner_module, 'precision_for'), (data_module, 'digits_source')): monkeypatch.setattr(o, k, getattr(o, k)) # `make` changes them
    threads = torch.get_num_threads(); torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()): yield
    finally: torch.set_num_threads(threads)

cells = [(f, e) for i,f in enumerate(features) for j,e in enumerate(events) if os.environ.get('IMAGENET_NB_CELLS') == 'all' or (i+j) % 5 == 0]

@pytest.mark.parametrize('name, event', cells)
def test_ends_as_if_nothing_had_happened(place, whole, monkeypatch, name, event):
    folder = f'{list(features).index(name)}_{events.index(event)}'
    k = steps(name)+2 # within the second epoch
    if event == 'SIGKILL':
        assert in_child(place, name, folder, At(k, kill)) == -9
        assert in_child(place, name, folder) == 0
    elif event == 'NaN and SIGKILL':
        for run,more in ((folder + 'whole', []), (folder, [At(2*k-2, kill)]), (folder, [])):
            assert in_child(place, name, run, At(1, poison, 'before_batch'), At(k-1, poison, 'before_batch'), *more) == (-9 if more else 0)
        assert all(bool(torch.isfinite(v).all()) for v in outcome(place/folder)[1].values())
        assert None not in outcome(place/folder)[0]['train_losses'] + outcome(place/folder)[0]['test_losses']
        whole = place/(folder + 'whole')
    else:
        with quiet(place, monkeypatch):
            error = {'error': RuntimeError('of a callback'), 'Ctrl-C': KeyboardInterrupt(), 'out of memory': torch.OutOfMemoryError('full')}.get(event)
            if event == 'looks': looked(name, folder)
            elif error:
                learn,own = make(name)
                with pytest.raises((RuntimeError, KeyboardInterrupt, ValueError)): learn.fit_config(folder, [*own, At(k, fail(error))], resume=True)
                learn.fit_config(folder, own, resume=True) # the same cell again
            else: another_fit(name, folder, place)
    assert differences(whole, place/folder) == []

def may_meet_one(name):
    "A broken file is replaced and noted in a run; in a look that meets one it is an error, and no trace is left of that"
    return contextlib.suppress(BadImage) if name == 'broken files' else contextlib.nullcontext()

def looked(name, folder):
    "Validation, predictions, test-time augmentation, a batch shown and a range test, before and after each epoch's training"
    class Looks(Callback):
        "At the end of an epoch, when everything about it is saved"
        order = 90
        def after_epoch(self):
            if self.learn.opt is not None and not hasattr(self.learn, 'lr_finder'): self.dls.train.one_batch()
    learn,own = make(name)
    for look in (lambda: learn.dls.show_batch(show=False), lambda: learn.dls.train.show_batch(unique=True, show=False), learn.validate, learn.get_preds, lambda: learn.tta(n=2), lambda: learn.lr_find(num_it=10, show_plot=False)):
        with may_meet_one(name): look()
    learn.fit_config(folder, [*own, Looks()], resume=True)

def another_fit(name, folder, place):
    "A run, a plain fit and an export after it, and then the same run once more by the same learner"
    learn,own = make(name)
    learn.fit_config(folder + 'first', own, resume=True)
    with may_meet_one(name): learn.fit(1, cbs=own)
    assert all(bool(torch.isfinite(v).all()) for v in learn.model.state_dict().values())
    learn.path = place; learn.export(f'{folder}.pkl')
    learn,own = make(name)
    learn.fit_config(folder, own, resume=True)
