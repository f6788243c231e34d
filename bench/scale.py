"""A tree as large as ImageNet: how long it takes to list and to open again, and whether workers grow in memory over an epoch.
The files are hard links to one small JPEG a class. Writes bench/results/scale.json.

    python bench/scale.py [--train 1281167] [--val 50000] [--classes 1000] [--workers 8]
"""
import argparse, io, os, shutil, tempfile, time
from pathlib import Path
import numpy as np
from PIL import Image
from common import machine, save_result
from imagenet_nb.data.layout import list_tree, open_tree
from imagenet_nb.data.loader import SeededDL

def make_tree(root, n_train, n_val, classes):
    "Class folders full of hard links"
    b = io.BytesIO(); Image.fromarray(np.zeros((8,8,3), np.uint8)).save(b, 'JPEG')
    for split,n in (('train', n_train), ('val', n_val)):
        for c in range(classes):
            d = root/split/f'n{c:08}'; d.mkdir(parents=True)
            first = d/f'n{c:08}_0.JPEG'; first.write_bytes(b.getvalue())
            for i in range(1, n//classes + (c < n%classes)): os.link(first, d/f'n{c:08}_{i}.JPEG')

def pss(pids):
    "Proportional memory of processes, MB"
    return sum(int(l.split()[1]) for p in pids for l in open(f'/proc/{p}/smaps_rollup') if l.startswith('Pss:'))/1024

def children():
    return [int(p) for p in Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()]

class Paths:
    "A dataset of paths and labels that opens no file"
    def __init__(self, t): self.t = t
    def __len__(self): return self.t.n_train
    def __getitem__(self, i): return len(self.t.files[i]), int(self.t.labels[i])

def growth(t, workers, bs=256):
    "(MB after the first fiftieth of an epoch, at its end) over this process and its workers"
    dl = SeededDL(Paths(t), bs=bs, shuffle=True, num_workers=workers)
    n,seen = len(dl),{}
    for i,_ in enumerate(dl):
        if i in (n//50, n-1-2*workers): seen[i] = pss([os.getpid(), *children()])
    return list(seen.values())

def main():
    p = argparse.ArgumentParser()
    for k,v in dict(train=1281167, val=50000, classes=1000, workers=8).items(): p.add_argument(f'--{k}', type=int, default=v)
    a = p.parse_args()
    d = Path(tempfile.mkdtemp(prefix='imagenet_nb_scale_'))
    try:
        make_tree(d/'data', a.train, a.val, a.classes)
        took = {}
        def timed(k, f):
            t = time.perf_counter(); r = f(); took.setdefault(k, []).append(round(time.perf_counter()-t, 2)); return r
        t = timed('list', lambda: list_tree(d/'data'))
        timed('first open', lambda: open_tree(d/'data', d/'cache'))
        for _ in range(3): timed('open again', lambda: open_tree(d/'data', d/'cache'))
        assert len(t.files) == a.train+a.val
        first,last = growth(t, a.workers)
        save_result('scale', dict(files=len(t.files), classes=a.classes, workers=a.workers, seconds=took, pss_mb=[round(first), round(last)], growth_percent=round(100*(last/first-1), 2)) | machine())
    finally: shutil.rmtree(d)

if __name__ == '__main__': main()
