"""Our training loop beside a bare PyTorch loop: same model, files, precision, memory format and optimizer, in turns. Writes bench/results/loop.json, or FILE.

    python bench/loop.py --data-dir FOLDER [--repeats 5] [--workers 0] [--only WORD …] [--out FILE]     the three rows
    python bench/loop.py --data-dir FOLDER --size 64 [--batch-size 64] [--images 1280] [...]            one row, ResNet-50 at this size

The rows: `resnet50-pytorch` at 64 px, `wideresnet16-2` at 32 px (random pixels in place of CIFAR's, in memory on both sides), and `resnet50-pytorch` at 128 px
against what the specification does on a CPU: fp32, NCHW (`--no-amp` there).
Ours does all that a run does: strong augmentation, MixUp, label smoothing, clipping, metrics, schedule, progress. The bare loop is what one would write first:
torch's DataLoader over the same files (whole decode by OpenCV, random resized crop, flip, normalisation; for 32 px a padded crop and flip), forward, backward, `torch.optim.SGD`.
Loading is included in both. The ratio is that of the speeds within a turn. On a GPU in fp16 the bare loop has no loss scaling, and the step alone, again and again on one batch that is there,
says what loading leaves of it.
"""
import argparse, copy, math, sys, time
import cv2, numpy as np, torch
from common import machine, save_result, spread
from imagenet_nb.all import Config, ScheduleCallback, get_dls, get_source, imagenet_learner, make_schedule
from imagenet_nb.data.source import Items, Opener, Source, cifar_stats

class Plain(torch.utils.data.Dataset):
    "Items of a `Source` in the ordinary way: decode, crop, flip, normalise"
    def __init__(self, src, size):
        self.src,self.size,self.items = src,size,src.items[:src.n_train]
        self.mean,self.std = (np.array(o, np.float32)*255 for o in src.stats)
    def __len__(self): return len(self.items)

    def photo(self, path):
        "A random resized crop"
        img = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
        H,W = img.shape[:2]
        for _ in range(10):
            area,r = H*W*np.random.uniform(.08, 1),math.exp(np.random.uniform(math.log(3/4), math.log(4/3)))
            w,h = round(math.sqrt(area*r)),round(math.sqrt(area/r))
            if w <= W and h <= H: break
        else: w = h = min(H, W)
        x,y = np.random.randint(W-w+1),np.random.randint(H-h+1)
        return cv2.resize(img[y:y+h,x:x+w], (self.size, self.size), interpolation=cv2.INTER_AREA if min(w, h) > self.size else cv2.INTER_LINEAR)

    def tiny(self, img):
        "A crop of the padded image"
        x,y = np.random.randint(0, 9, 2)
        return np.pad(img, ((4, 4), (4, 4), (0, 0)))[y:y+self.size,x:x+self.size]

    def __getitem__(self, i):
        o = self.items[i]
        img = self.tiny(o['x']) if self.src.small else self.photo(self.src.opener(o))
        if np.random.rand() < .5: img = img[:,::-1]
        return torch.from_numpy(((img-self.mean)/self.std).transpose(2, 0, 1).copy()),int(o['y'])

def step(model, opt, x, y, dtype):
    with torch.autocast(x.device.type, dtype, enabled=dtype is not None): loss = torch.nn.functional.cross_entropy(model(x).float(), y)
    loss.backward(); opt.step(); opt.zero_grad()

def done(device): return torch.cuda.synchronize if device.type == 'cuda' else lambda: None

class Bare:
    "The plainest loop that trains the same model"
    def __init__(self, learn, src, plan, workers):
        self.device,self.dtype = next(learn.model.parameters()).device,plan.dtype
        self.format = torch.channels_last if plan.channels_last else torch.contiguous_format
        self.model = copy.deepcopy(learn.model).train().to(memory_format=self.format)
        self.opt = torch.optim.SGD(self.model.parameters(), lr=.01, momentum=.9, weight_decay=1e-4, nesterov=True, fused=True)
        self.dl = torch.utils.data.DataLoader(Plain(src, learn.cfg.image_size), learn.cfg.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0, pin_memory=self.device.type == 'cuda')

    def put(self, x, y): return x.to(self.device, non_blocking=True, memory_format=self.format),y.to(self.device, non_blocking=True)

    def epoch(self):
        "Images a second"
        start = time.perf_counter()
        for b in self.dl: step(self.model, self.opt, *self.put(*b), self.dtype)
        done(self.device)()
        return len(self.dl.dataset)/(time.perf_counter()-start)

    def alone(self, n=20):
        "Images a second where nothing is loaded"
        b = self.put(*next(iter(self.dl)))
        for i in range(n+3):
            if i == 3: done(self.device)(); start = time.perf_counter()
            step(self.model, self.opt, *b, self.dtype)
        done(self.device)()
        return n*len(b[0])/(time.perf_counter()-start)

def ours(learn):
    "Images a second of one epoch of training with everything on"
    learn.opt = None
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=ScheduleCallback(make_schedule(learn.cfg, len(learn.dls.train))))
    return learn.recorder.stats[1]

def photographs(cfg, n):
    "`n` of the training photographs, and one item to test"
    src = get_source(cfg)
    src.items = src.items[[*range(0, src.n_train, max(1, src.n_train//n))][:n] + [len(src.items)-1]]
    src.n_train = len(src.items)-1
    return src

def noise(n, size=32):
    "As many items as CIFAR-10 would give, in its shape"
    items = np.empty(n+1, [('x', 'u1', (size, size, 3)), ('y', 'i4')])
    rng,names = np.random.default_rng(0),[str(i) for i in range(10)]
    items['x'],items['y'] = rng.integers(0, 256, items['x'].shape),np.arange(n+1)%10
    return Source(items.view(Items), n, names, names, Opener(), cifar_stats['cifar10'], small=True)

def row(a, name, model, size, images, spec=False, goal=None):
    "Both loops in turns"
    small = size == 32 and model.startswith('wide')
    cfg = Config(model=model, dataset='cifar10' if small else 'imagenet', data_dir=a.data_dir, size=size, batch_size=a.batch_size, scheduler='onecycle', epochs=1, num_workers=a.workers)
    src = noise(images) if small else photographs(cfg, images)
    learn = imagenet_learner(cfg, get_dls(cfg, src))
    plan = learn.precision.current
    bare = Bare(learn, src, type(plan)(plan.device_type, channels_last=False) if spec else plan, a.workers)
    pairs = [(ours(learn), bare.epoch()) for _ in range(a.repeats+1)][1:] # the first turn warms up
    ratio,(o,b) = spread(x/y for x,y in pairs),map(spread, zip(*pairs))
    print(f'{name}: {ratio}', file=sys.stderr, flush=True)
    return dict(name=name, against='fp32, NCHW, a plain loop' if spec else 'a bare loop', goal=goal, model=model, size=size, batch_size=a.batch_size, images=src.n_train, workers=a.workers, threads=torch.get_num_threads(),
        precision=str(plan), bare_precision='fp32' if spec else str(plan), repeats=a.repeats, step_alone_images_per_second=None if spec else round(bare.alone(20 if a.workers else 5), 1),
        ours_images_per_second=o['median'], bare_images_per_second=b['median'], ours_spread=o, bare_spread=b, ratio_median=ratio['median'], ratio_min=ratio['min'], ratio_max=ratio['max'])

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data-dir', required=True); p.add_argument('--size', type=int); p.add_argument('--batch-size', type=int, default=64)
    p.add_argument('--images', type=int); p.add_argument('--repeats', type=int, default=5); p.add_argument('--only', nargs='+', default=[''])
    p.add_argument('--workers', type=int, default=0); p.add_argument('--out')
    a = p.parse_args()
    if a.size: d = row(a, f'resnet50-pytorch, {a.size} px', 'resnet50-pytorch', a.size, a.images or 1280)
    else:
        n = lambda many: a.images or many
        rows = [row(a, *o) for o in (('ResNet-50, 64 px', 'resnet50-pytorch', 64, n(1280), False, .97), ('WRN-16-2, 32 px', 'wideresnet16-2', 32, n(5120), False, .95),
            ('ResNet-50, 128 px, as specified', 'resnet50-pytorch', 128, n(320), True, 2.5)) if any(w in o[0] for w in a.only)]
        if not rows: p.error(f'--only {" ".join(a.only)}: no row has such a name')
        d = rows[0] | dict(rows=rows) # the first one also as what this file held before
    save_result('loop', d | machine(), a.out)

if __name__ == '__main__': main()
