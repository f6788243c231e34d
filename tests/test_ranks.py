"Real ranks: two processes under torchrun, on the CPU, with unequal shares of the data."
import json, subprocess, sys
from pathlib import Path
import pytest

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
