"""From photographs to batches, side by side on one core: decoding alone, our loader, and what others offer. Writes bench/results/input.json.

    python bench/input.py --photos FOLDER [--venv DIR] [--images 300] [--size 224] [--batch-size 64] [--repeats 5] [--only WORD …] [--small] [--out FILE]

FOLDER holds `<class>/<file>`, best at their original size. Every contestant reads the same files in the same order, again and again, so they lie in
memory (a warm page cache). The process is pinned to one core before it imports anything, with one thread for torch, OpenCV and OpenMP; contestants
with workers may use more cores, and say how many. In each of the repeats all contestants run in turn, after one turn that warms up. A ratio is taken
within a turn, to decoding alone (OpenCV, whole photograph, from its file). What each one does is said in its `what`; none but ours has addressed randomness.
Where `cpu_of_main_process` of a contestant without workers is clearly below 1, somebody else used the core: measure again.

`--venv DIR` makes a virtual environment there that also sees the packages of this one, puts the others' packages into it (they are no
requirements of ours), and runs in it. Without it only what is installed takes part; who is missing, and why, stands in `absent`.
"""
import argparse, gc, json, os, statistics, sys, tarfile, tempfile, time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from common import machine, photo_tree, save_result, spread
from others import again, installed

reference,whole = 'decode: OpenCV','ours'
mean,std = (.485, .456, .406),(.229, .224, .225)
contestants = {}
def contestant(name, what, cores=1):
    "Register a function that takes the facts of the run and returns a pass: it goes through all photographs, and returns how many they were"
    def register(f): contestants[name] = SimpleNamespace(make=f, what=what, cores=cores)
    return register

# Decoding alone
def each(files, decode): return lambda: sum(decode(f) is not None for f in files)
def read(f): return Path(f).read_bytes()
def pil(f):
    from PIL import Image
    return Image.open(f).convert('RGB')

def cv2_rgb(b):
    import cv2, numpy as np
    return cv2.imdecode(np.frombuffer(b, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)

def tv_rgb(f):
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    return decode_jpeg(read_file(f), ImageReadMode.RGB)

contestant(reference, 'cv2.imdecode of each file, RGB, whole')(lambda o: each(o.files, lambda f: cv2_rgb(read(f))))
contestant('decode: OpenCV, from memory', 'the same from bytes that are already read')(lambda o: each([*map(read, o.files)], cv2_rgb))
contestant('decode: torchvision', 'torchvision.io.decode_jpeg of read_file, RGB')(lambda o: each(o.files, tv_rgb))
contestant('decode: Pillow', "Image.open(file).convert('RGB')")(lambda o: each(o.files, pil))

@contestant('decode: simplejpeg', 'simplejpeg.decode_jpeg of each file, RGB; like PyTurboJPEG it calls libjpeg-turbo, which it brings along')
def _(o):
    import simplejpeg
    return each(o.files, lambda f: simplejpeg.decode_jpeg(read(f)))

@contestant('decode: PyTurboJPEG', 'TurboJPEG.decode of each file, RGB')
def _(o):
    import turbojpeg
    jpeg = turbojpeg.TurboJPEG()
    return each(o.files, lambda f: jpeg.decode(read(f), turbojpeg.TJPF_RGB))

# Ours
def our_loader(o, workers=0):
    from imagenet_nb.all import Config, get_dls
    dl = get_dls(Config(dataset='imagenet', data_dir=str(o.root), size=o.size, batch_size=o.bs, augmentation='strong', num_workers=workers)).train
    dl.shuffle = False # the order of all the others
    return dl

def passes(dl): return lambda: sum(len(b[0]) for b in dl)

strong = 'random resized crop, flip, shift, scale, rotation, colour jitter, normalisation, Cutout'
contestant(whole, f"get_dls(Config(augmentation='strong')).train: {strong}; decodes less than the whole where the crop allows it; antialiased")(lambda o: passes(our_loader(o)))
contestant("ours: a worker's share", 'the same without what a GPU would do: decode, one warp, collate')(lambda o: passes(our_loader(o).new(after_batch=[])))
contestant('ours, 1 worker', 'the whole, with one worker process beside the main one', cores=2)(lambda o: passes(our_loader(o, 1)))
contestant('ours, 2 workers', 'the whole, with two worker processes beside the main one', cores=3)(lambda o: passes(our_loader(o, 2)))

class Parts:
    "A stopwatch that runs for one part at a time: a part stops while another one runs inside it"
    def __init__(self): self.took,self.now,self.since = Counter(),None,time.perf_counter()
    def switch(self, part):
        t = time.perf_counter()
        self.took[self.now] += t-self.since
        was,self.now,self.since = self.now,part,t
        return was
    def timed(self, f, part):
        def g(*args, **kwargs):
            was = self.switch(part)
            try: return f(*args, **kwargs)
            finally: self.switch(was)
        return g

def take_apart(dl):
    "Milliseconds an image that each part of our loader takes"
    from imagenet_nb.data.augment import ColourNormalize, Warp
    from imagenet_nb.data.image import LazyImage
    from imagenet_nb.data.loader import SeededDL
    p = Parts()
    with ExitStack() as stack:
        for cls,name,part in ((LazyImage, 'size', 'decode'), (LazyImage, 'decode', 'decode'), (LazyImage, 'region', 'decode'), (Warp, '__call__', 'warp'),
                              (SeededDL, 'create_batch', 'collate'), (ColourNormalize, '__call__', 'device')):
            f = getattr(cls, name, None)
            if f is not None: stack.enter_context(mock.patch.object(cls, name, property(p.timed(f.fget, part)) if isinstance(f, property) else p.timed(f, part)))
        p.switch('loader')
        n = passes(dl)()
        p.switch(None)
    return {k: 1000*p.took[k]/n for k in ('decode', 'warp', 'loader', 'collate', 'device')}

# Loops of torch's own DataLoader

def torch_loader(o, load, tfm):
    import torch
    class Photos(torch.utils.data.Dataset):
        def __len__(self): return len(o.files)
        def __getitem__(self, i): return tfm(load(o.files[i])),i
    return passes(torch.utils.data.DataLoader(Photos(), o.bs, num_workers=0))

def specified(o, p):
    "The specification's strong augmentation; it does not say how often an image is turned or recoloured"
    os.environ['NO_ALBUMENTATIONS_UPDATE'] = '1'
    import albumentations as A, numpy as np
    from albumentations.pytorch import ToTensorV2
    hole = max(1, round(o.size*16/224))
    tfm = A.Compose([A.RandomResizedCrop((o.size, o.size)), A.HorizontalFlip(p=.5), A.ShiftScaleRotate(shift_limit=.0625, scale_limit=.1, rotate_limit=15, p=p),
        A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=(hole, hole), hole_width_range=(hole, hole), p=.5),
        A.ColorJitter(brightness=.2, contrast=.2, saturation=.2, hue=0, p=p), A.Normalize(mean, std), ToTensorV2()])
    return torch_loader(o, lambda f: np.array(pil(f)), lambda x: tfm(image=x)['image'])

contestant('specification', f'Pillow, albumentations 2.0.8, torch DataLoader: {strong}; turned and recoloured with p=0.5, its default; not antialiased')(lambda o: specified(o, .5))
contestant('specification, p=1', 'the same, with every photograph turned and recoloured, as ours are')(lambda o: specified(o, 1.))

def tv2(o):
    import torch
    from torchvision.transforms import v2
    area = (16/224)**2
    return v2.Compose([v2.RandomResizedCrop(o.size, antialias=True), v2.RandomHorizontalFlip(), v2.RandomAffine(15, (.0625, .0625), (.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
        v2.ColorJitter(.2, .2, .2), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std), v2.RandomErasing(.5, (area, area), (1, 1))])

contestant('torchvision v2, Pillow', f'torchvision.transforms.v2 on Pillow images, torch DataLoader: {strong}; antialiased')(lambda o: torch_loader(o, pil, tv2(o)))
contestant('torchvision v2, tensors', 'the same on uint8 tensors from torchvision.io.decode_jpeg')(lambda o: torch_loader(o, tv_rgb, tv2(o)))

@contestant('timm', 'create_transform(size, is_training=True), its defaults: random resized crop, flip, colour jitter, normalisation; antialiased')
def _(o):
    from timm.data import create_transform
    return torch_loader(o, pil, create_transform(o.size, is_training=True))

@contestant('fastai', 'RandomResizedCrop(size, min_scale=0.35) and aug_transforms() on the batch, its defaults: flip, rotation, zoom, warp, lighting, normalisation')
def _(o):
    from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, Normalize, RandomResizedCrop, aug_transforms, imagenet_stats, parent_label
    block = DataBlock((ImageBlock, CategoryBlock), get_y=parent_label, splitter=lambda items: (range(len(items)), range(1)),
        item_tfms=RandomResizedCrop(o.size, min_scale=.35), batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)])
    return passes(block.dataloaders([*map(Path, o.files)], bs=o.bs, num_workers=0, device='cpu').train.new(shuffle=False, drop_last=False))

# Loaders of their own

def turbo(o, **kw):
    import turboloader as tl
    if not (tar := o.root/'photos.tar').exists():
        with tarfile.open(tar, 'w', dereference=True) as t:
            for i,f in enumerate(o.files): t.add(f, f'{Path(f).parent.name}/{i:07}.jpg')
    return passes(tl.DataLoader(str(tar), batch_size=o.bs, num_workers=1, image_size=o.size, output_format='pytorch', train_aug=True, transform=tl.ImageNetNormalize(), **kw))

contestant('TurboLoader', 'its fused path on a TAR of the files: random resized crop (only the crop is decoded), flip, normalisation; not antialiased')(turbo)
contestant('TurboLoader, antialias', 'the same with antialias=True')(lambda o: turbo(o, antialias=True))

@contestant('SPDL', 'its pipeline with one thread, FFmpeg decodes and filters: random resized crop, flip, then normalisation with torch; antialiased')
def _(o):
    import numpy as np, spdl.io, torch
    from spdl.pipeline import PipelineBuilder
    from imagenet_nb.data.augment import resized_crop
    m,s = (torch.tensor(v)[:,None,None]*255 for v in (mean, std))
    def decode(f):
        p = spdl.io.demux_image(f)
        x,y,w,h = map(int, resized_crop((p.width, p.height), np.random.rand(22).tolist()))
        flip = 'hflip,' if np.random.rand() < .5 else ''
        return spdl.io.decode_packets(p, filter_desc=f'crop={w}:{h}:{x}:{y},scale={o.size}:{o.size}:flags=bilinear,{flip}format=pix_fmts=rgb24')
    def batch(frames): return (spdl.io.to_torch(spdl.io.convert_frames(frames)).permute(0, 3, 1, 2).float().sub_(m).div_(s),)
    def run():
        pipe = PipelineBuilder().add_source(o.files).pipe(decode).aggregate(o.bs).pipe(batch).add_sink(2).build(num_threads=1)
        with pipe.auto_stop(): return sum(len(b[0]) for b in pipe)
    return run

# The run
all_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else [*range(os.cpu_count() or 1)]

def pin(n):
    "Keep this thread, and those that it begins, on `n` cores; returns how many there were"
    n = min(n, len(all_cores))
    if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, all_cores[-n:])
    return n

def ready(o, only):
    "The passes that can be made here, each made once; and why others cannot"
    run,absent = {},json.loads(os.environ['ABSENT'])
    for name,c in contestants.items():
        if only and not any(w in name for w in (reference, *only)): continue
        c.cores = pin(c.cores)
        try:
            f = c.make(o)
            if (n := f()) != len(o.files): raise RuntimeError(f'it made {n} of {len(o.files)} images')
            run[name] = f
        except (ImportError, RuntimeError) as e:
            if name.startswith('ours'): raise
            absent[name] = ' '.join(str(e).split())[:300]
    return run,absent

def main(a, root):
    pin(1)
    import cv2, torch
    cv2.setNumThreads(0); torch.set_num_threads(1)
    os.environ['XDG_CACHE_HOME'] = str(root/'cache') # nobody needs the index of a temporary folder later
    o = SimpleNamespace(root=root, files=photo_tree(a.photos, root, a.images), size=a.size, bs=a.batch_size)
    (run,absent),apart,rates,cpu,parts = ready(o, a.only),our_loader(o),{},{},[]
    for _ in range(a.repeats):
        for name,f in run.items():
            gc.collect(); pin(contestants[name].cores)
            start,used = time.perf_counter(),time.process_time()
            f()
            took = time.perf_counter()-start
            rates.setdefault(name, []).append(len(o.files)/took); cpu.setdefault(name, []).append((time.process_time()-used)/took)
        pin(1); parts.append(take_apart(apart))
    pin(len(all_cores))
    ratio = lambda x, y: spread(p/q for p,q in zip(rates[x], rates[y]))
    return dict(photos=len(o.files), mean_kb=round(statistics.mean(os.path.getsize(f) for f in o.files)/1000, 1), size=a.size, batch_size=a.batch_size, repeats=a.repeats, augmentation='strong',
        cores=1, threads=dict(torch=torch.get_num_threads(), opencv=cv2.getNumThreads(), omp=1), page_cache='warm', order='that of the file names', reference=reference,
        contestants={n: dict(what=contestants[n].what, images_per_second=spread(v), ratio=ratio(n, reference), cores=contestants[n].cores, cpu_of_main_process=round(statistics.median(cpu[n]), 2)) for n,v in rates.items()},
        ours_ms_per_image={k: spread(p[k] for p in parts) for k in parts[0]}, ours_to={n: ratio(whole, n) for n in rates if whole in rates and n != whole}, others=installed(), absent=absent) | machine()

def plot(d, ax=None):
    "Images a second of each contestant beside decoding alone, as bars; `d` is the content of input.json"
    import matplotlib.pyplot as plt
    rows = sorted(d['contestants'].items(), key=lambda o: o[1]['ratio']['median'])
    ax = ax or plt.subplots(figsize=(8, .3*len(rows)+.8))[1]
    for i,(name,c) in enumerate(rows):
        r,ours = c['ratio'],name.startswith('ours')
        ax.barh(i, r['median'], xerr=[[r['median']-r['min']], [r['max']-r['median']]], color='tab:orange' if ours else 'silver' if name.startswith('decode') else 'tab:blue', ecolor='dimgray', hatch='//' if c['cores'] > 1 else None, edgecolor='white')
        ax.text(.02, i, f'{c["images_per_second"]["median"]:.0f}/s', va='center', fontsize='small', color='black' if name.startswith('decode') or ours else 'white')
    ax.set_yticks(range(len(rows)), [n + (f' ({c["cores"]} cores)' if c['cores'] > 1 else '') for n,c in rows], fontsize='small')
    ax.axvline(1, color='black', lw=.8, ls=':'); ax.spines[['top', 'right']].set_visible(False)
    ax.set_xlabel(f'speed beside {d["reference"]}, from its file (bars: median of {d["repeats"]}; lines: smallest and largest)', fontsize='small')
    return ax

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--photos', required=True); p.add_argument('--venv'); p.add_argument('--out'); p.add_argument('--only', nargs='+'); p.add_argument('--small', action='store_true')
    for k,v in dict(images=300, size=224, batch_size=64, repeats=5).items(): p.add_argument(f'--{k.replace("_", "-")}', type=int, default=v)
    a = p.parse_args()
    if a.small: a.images,a.size,a.batch_size,a.repeats = 12,32,4,1
    if 'ABSENT' not in os.environ: sys.exit(again(__file__, a.venv))
    with tempfile.TemporaryDirectory() as root: save_result('input', main(a, Path(root)), a.out)
