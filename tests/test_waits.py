"No step waits for the device: a whole fit on a CUDA device that is not there, where every copy and every read is seen (with a GPU, test_cuda.py asks the driver)."
import collections, traceback
import pytest, torch
from fastai.callback.core import Callback
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from conftest import root
from imagenet_nb.config import Config
from imagenet_nb.flags import presets
from imagenet_nb.run import learner as learner_module

aten = torch.ops.aten

class Waits(TorchDispatchMode):
    "Note the line of ours or fastai's at which the host would wait for a CUDA device"
    def __init__(self): super().__init__(); self.lines,self.on = collections.Counter(),False

    def note(self, what):
        if not self.on: return
        where = [f for f in traceback.extract_stack() if '/torch/' not in f.filename and not f.filename.endswith('test_waits.py')][-1]
        self.lines[f'{what}: {"/".join(where.filename.split("/")[-2:])}:{where.lineno} {where.line}'] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs,on_gpu = kwargs or {},any(isinstance(o, torch.Tensor) and o.device.type == 'cuda' for o in args)
        if func is aten._pin_memory.default: return args[0].clone() # there is no driver to ask for such memory
        if func is aten._local_scalar_dense.default:
            if on_gpu: self.note('read')
            return {torch.bool: True, torch.float32: 1., torch.float64: 1.}.get(args[0].dtype, 1)
        if func is aten._fused_sgd_.default: return # it has no imitation
        if func is aten._to_copy.default and (to := kwargs.get('device')) and (to.type == 'cuda') != on_gpu and not kwargs.get('non_blocking'):
            self.note(f'copy to {to.type}')
        if func is aten.copy_.default and args[0].device.type != args[1].device.type and not (args[2:] and args[2]): self.note('copy')
        return func(*args, **kwargs)
