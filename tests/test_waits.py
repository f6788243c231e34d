"""No step waits for the device: whole passes on a CUDA device that is not there, in which every read of it and every copy to and fro is seen. Its numbers
are imitations (torch's FakeTensorMode), so what is computed means nothing, and torch's own backward pass is left out. With a GPU, test_cuda.py asks the driver."""
import collections, traceback
import pytest, torch
from fastai.callback.core import Callback, CancelFitException
from fastai.learner import Learner
from fastai.torch_core import TensorBase
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from imagenet_nb.config import Config
from imagenet_nb.data.augment import ColourNormalize
from imagenet_nb.data.loader import SeededDL
from imagenet_nb.data.source import get_dls
from imagenet_nb.flags import presets
from imagenet_nb.run import learner as learner_module

aten,gpu = torch.ops.aten,torch.device('cuda', 0)

class Waits(TorchDispatchMode):
    "Note the lines of ours or fastai's at which the host would wait for the device, while `on`"
    def __init__(self): super().__init__(); self.lines,self.on = collections.Counter(),False

    def note(self, what):
        if not self.on: return
        at = [f for f in traceback.extract_stack() if '/torch/' not in f.filename and not f.filename.endswith('test_waits.py')][-1]
        self.lines[f'{what} at {"/".join(at.filename.split("/")[-2:])}:{at.lineno} {at.line}'] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs,there = kwargs or {},any(isinstance(o, torch.Tensor) and o.device.type == 'cuda' for o in args)
        if func is aten._pin_memory.default: return args[0].clone() # there is no driver to ask for such memory
        if func is aten._fused_sgd_.default: return # of this there is no imitation
        if func is aten._local_scalar_dense.default: # .item(), bool(), float() …
            if there: self.note('a read')
            return {torch.bool: True, torch.float32: 1., torch.float64: 1.}.get(args[0].dtype, 1)
        if func is aten._to_copy.default and (to := kwargs.get('device')) and (to.type == 'cuda') != there and not kwargs.get('non_blocking'):
            self.note(f'a copy to {to.type}')
        if func is aten.copy_.default and args[0].device.type != args[1].device.type and not any(args[2:]): self.note('a copy')
        return func(*args, **kwargs)

class Steps(Callback):
    "Watch from the third step on, and end with the pass"
    order,run_valid = -100,False
    def __init__(self, waits): self.waits,self.n = waits,0
    def before_batch(self): self.waits.on,self.n = self.iter > 1,self.n+1
    def after_train(self):
        self.waits.on = False
        raise CancelFitException()

batches,as_subclass,first_model = SeededDL.batches,torch.Tensor.as_subclass,learner_module.first_model

def real_batches(self):
    "What workers do is real"
    made = iter(batches(self))
    while True:
        with unset_fake_temporarily(): b = next(made, None)
        if b is None: return
        yield tuple(as_subclass(o, torch.Tensor) for o in b)

def fake_model(*args):
    "The model on the device, which no `.to` can bring there"
    with unset_fake_temporarily(): model = first_model(*args)
    for m in model.modules():
        for k,p in m._parameters.items():
            if p is not None: m._parameters[k] = torch.nn.Parameter(p.to(gpu))
        for k,b in m._buffers.items():
            if b is not None: m._buffers[k] = b.to(gpu)
    model.to = lambda *a: model
    return model

def fake_backward(self):
    for p in self.model.parameters(): p.grad = torch.zeros_like(p)

def untyped(self, cls): return self if isinstance(self, FakeTensor) else as_subclass(self, cls)

@pytest.fixture
def pretended(monkeypatch):
    for o,n,v in ((learner_module, 'choose_device', lambda *a: gpu), (learner_module, 'first_model', fake_model), (SeededDL, 'batches', real_batches),
                  (Learner, '_backward', fake_backward), (torch.Tensor, 'as_subclass', untyped), (TensorBase, 'as_subclass', untyped),
                  (torch.cuda, 'default_generators', (torch.Generator(),)), (torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False),
                  (torch.cuda, 'is_bf16_supported', lambda *a, **kw: True)):
        monkeypatch.setattr(o, n, v)

def waits(kw, *cbs):
    "The lines at which a pass would wait"
    cfg = Config(**presets['quickstart'] | dict(model='wideresnet10-1', size=16, epochs=1, batch_size=200, num_workers=0, mininterval=3600.) | kw)
    dls = get_dls(cfg)
    for dl in dls.loaders: dl.device = gpu
    colour = next(f for f in dls.train.after_batch.fs if isinstance(f, ColourNormalize))
    dls.train.after_batch = lambda b: (colour.colour(b[0], train=True), b[1]) # what fastai finds by a type that an imitation cannot have
    with FakeTensorMode(allow_non_fake_inputs=True), Waits() as w:
        learn = learner_module.imagenet_learner(cfg, dls)
        learn.fit(1, cbs=[s := Steps(w), *cbs])
    assert s.n == 8
    return w.lines

@pytest.mark.parametrize('kw', [{}, dict(precision='bf16'), dict(amp=False), dict(mixup_per_image=True), dict(mixup=False, label_smoothing=0., gradient_clip=0.),
                                dict(optimizer='adamw'), dict(precision='bf16', optimizer='adam'), dict(precision='bf16', ema=.9), dict(precision='bf16', accumulate=3)],
                         ids=lambda kw: ', '.join(f'{k}={v}' for k,v in kw.items()) or 'fp16')
def test_no_step_waits(pretended, kw): assert dict(waits(kw)) == {}

def test_waits_are_seen(pretended):
    "The test above can fail: a read, a copy to the device and one back"
    class Bad(Callback):
        run_valid = False
        def after_loss(self):
            float(self.loss_grad)
            torch.ones(3).to(gpu)
            self.pred.detach().cpu()
    found = waits(dict(precision='bf16'), Bad())
    assert sorted(found.values()) == [6, 6, 6] and {o.split(' at ')[0] for o in found} == {'a read', 'a copy to cuda', 'a copy to cpu'}, found
