"""What an epoch costs beside its steps: how long until its first batch is there, with workers that last and with workers that begin anew, and what memory
remains after it.

    python bench/epochs.py [--epochs 20] [--workers 2]
The handwritten digits at 32 px; a training of `wideresnet10-1`, and the loader alone. Memory is the proportional set size (PSS) of the process and its workers, so that what they share
counts once (Linux). Writes bench/results/epochs.json.
"""
import argparse, gc, os, statistics, time
from pathlib import Path
from common import machine, save_result
from fastai.callback.core import Callback
from imagenet_nb.config import Config
from imagenet_nb.flags import presets
from imagenet_nb.run.learner import imagenet_learner

def pss():
    "MB of this process and its children"
    me = os.getpid()
    pids = [me, *(int(p) for t in Path(f'/proc/{me}/task').iterdir() for p in (t/'children').read_text().split())]
    return sum(int(l.split()[1]) for p in pids for l in Path(f'/proc/{p}/smaps_rollup').read_text().splitlines() if l.startswith('Pss:'))/1024

class Memory(Callback):
    order = 100
    def before_fit(self): self.mb = []
    def after_epoch(self):
        gc.collect()
        self.mb.append(round(pss(), 1))

def first_batches(dl, n):
    "Seconds until the first batch, for each of `n` passes"
    took = []
    for _ in range(n):
        start = time.perf_counter()
        it = iter(dl); next(it)
        took.append(time.perf_counter()-start)
        for _ in it: pass
    return took

def main():
    p = argparse.ArgumentParser(); p.add_argument('--epochs', type=int, default=20); p.add_argument('--workers', type=int, default=2); a = p.parse_args()
    def learner(workers): return imagenet_learner(Config(**presets['quickstart'] | dict(model='wideresnet10-1', epochs=a.epochs, batch_size=64, num_workers=workers)))
    starts = {}
    for k,lasts in {'workers that last': True, 'workers that begin anew': False}.items():
        dl = learner(a.workers).dls.train
        if not lasts: dl.crew = None
        first,*later = first_batches(dl, 8)
        starts[k] = dict(first=round(first, 4), later=round(statistics.median(later), 4), slowest=round(max(later), 4))
    memory = {}
    for workers in (0, a.workers):
        learn = learner(workers)
        with learn.no_bar(), learn.no_logging(): learn.fit(a.epochs, lr=.01, cbs=(m := Memory()))
        third = a.epochs//3
        memory[f'{workers} workers'] = dict(mb=m.mb, peak=max(m.mb), growth=round(statistics.mean(m.mb[-third:])/statistics.mean(m.mb[third:2*third])-1, 4))
    save_result('epochs', dict(epochs=a.epochs, workers=a.workers, seconds_to_first_batch=starts, memory=memory) | machine())

if __name__ == '__main__': main()
