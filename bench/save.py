"""What a save costs training: ours, which copies and lets a thread write, beside one that waits for the disk, in turns within one fit.

    python bench/save.py [--model resnet50-pytorch] [--size 64] [--batch-size 16] [--repeats 5] [--device cpu] [--folder FOLDER] [--out FILE]
The model has 1000 classes, SGD and momentum; its one batch is already there. The stall is what `Checkpoints.save` takes in the training thread: for both the look at
the gradients, then for ours the copy, and for the other whether all is finite, the checksum, the file and the wait for the disk. Then the steps while the thread writes, beside those while nothing
is written. FOLDER lies on the disk that is meant. Writes bench/results/save.json, or FILE.
"""
import argparse, shutil, statistics, tempfile, time
from functools import partial
from unittest.mock import patch
import torch
from fastai.basics import Callback, CancelFitException, CrossEntropyLossFlat, DataLoaders, Learner, SGD
from common import machine, save_result
from imagenet_nb.callback.resume import Checkpoints
from imagenet_nb.callback.state import fit_state
from imagenet_nb.data.loader import SeededDL
from imagenet_nb.model.zoo import create_model

class InPlace:
    "A writer that does at once what it is given: training waits"
    def wait(self): pass
    def take(self, state, f):
        f(state)
        return True

class Turns(Callback):
    "After some quiet steps a save, of each kind in turns; and the time of every step"
    order,run_valid = 70,False
    def __init__(self, repeats, quiet, sync):
        self.repeats,self.quiet,self.sync,self.left = repeats,quiet,sync,quiet
        self.stalls,self.steps = dict(ours=[], blocking=[]),dict(writing=[], quiet=[])

    @property
    def writing(self): return self.learn.checkpoints.files.writer.thread is not None

    def before_batch(self):
        self.sync()
        self.began,self.start = self.writing,time.perf_counter()

    def after_batch(self):
        self.sync()
        took,now = time.perf_counter()-self.start,self.writing
        if self.began == now and self.iter > 1: self.steps['writing' if now else 'quiet'].append(took) # the first steps set things up
        if now: return
        self.left -= 1
        if not self.left: self.save()

    def save(self):
        "The one whose turn it is"
        kind,files = min(self.stalls, key=lambda k: len(self.stalls[k])),self.learn.checkpoints.files
        if len(self.stalls[kind]) > self.repeats: raise CancelFitException # the first of each is to warm up
        where,self.left = fit_state(self.learn, self.epoch, self.iter+1),self.quiet
        shutil.rmtree(files.folder, ignore_errors=True); files.take()
        start = time.perf_counter()
        if kind == 'ours': self.learn.checkpoints.save(where)
        else:
            with patch.object(files, 'writer', InPlace()): self.learn.checkpoints.save(where)
        self.stalls[kind].append(time.perf_counter()-start)

def spread(v): return dict(n=len(v), median=round(statistics.median(v), 4), min=round(min(v), 4), max=round(max(v), 4))

def main():
    p = argparse.ArgumentParser()
    p.add_argument('--model', default='resnet50-pytorch'); p.add_argument('--size', type=int, default=64); p.add_argument('--batch-size', type=int, default=16)
    p.add_argument('--repeats', type=int, default=5); p.add_argument('--quiet', type=int, default=3); p.add_argument('--device', default='cpu')
    p.add_argument('--folder'); p.add_argument('--out')
    a = p.parse_args()
    folder = tempfile.mkdtemp(dir=a.folder)
    dl = SeededDL([(torch.randn(3, a.size, a.size), 0)]*a.batch_size*10_000, bs=a.batch_size, shuffle=False, num_workers=0, device=torch.device(a.device))
    learn = Learner(DataLoaders(dl, dl), create_model(a.model, 1000, a.size).to(a.device), loss_func=CrossEntropyLossFlat(), opt_func=partial(SGD, mom=.9), lr=1e-4)
    turns = Turns(a.repeats, a.quiet, torch.cuda.synchronize if a.device.startswith('cuda') else lambda: None)
    try:
        with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=[Checkpoints(folder, minutes=1e9), turns])
    finally: shutil.rmtree(folder, ignore_errors=True)
    stalls = {k: v[1:] for k,v in turns.stalls.items()}
    shares,steps = [o/b for o,b in zip(*stalls.values())],{k: statistics.median(v) for k,v in turns.steps.items()}
    save_result('save', dict(model=a.model, device=a.device, size=a.size, batch_size=a.batch_size, repeats=a.repeats, stall_seconds={k: spread(v) for k,v in stalls.items()},
        stall_share=spread(shares), step_seconds={k: spread(v) for k,v in turns.steps.items()}, step_ratio=round(steps['writing']/steps['quiet'], 3)) | machine(), a.out)

if __name__ == '__main__': main()
