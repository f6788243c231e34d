"""Our training loop beside a bare PyTorch loop: same model, batches, precision and optimizer, in turns.

    python bench/loop.py --data-dir FOLDER [--size 64] [--batch-size 64] [--images 1280] [--repeats 5] [--workers 0] [--out FILE]
The bare loop does forward, backward and step, nothing else. Ours does all that a run does: MixUp, label smoothing, clipping,
metrics, schedule. Data loading is the same for both and included in both. On a GPU in fp16 the bare loop has no
loss scaling, and the step alone, again and again on one batch that is already there, says what loading leaves of it. Writes bench/results/loop.json, or FILE.
"""
import argparse, statistics, time
import torch
from common import machine, save_result
from imagenet_nb.all import Config, ScheduleCallback, get_dls, get_source, imagenet_learner, make_schedule, opt_func, model_splitter

def bare(learn, dtype):
    "Seconds for one epoch of the plainest loop that trains the same model"
    model,opt = learn.model.train(), opt_func('sgd')(model_splitter(learn.model), lr=.01)
    start = time.perf_counter()
    for x,y in learn.dls.train:
        x,y = x.as_subclass(torch.Tensor),y.as_subclass(torch.Tensor)
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None): loss = torch.nn.functional.cross_entropy(model(x).float(), y)
        loss.backward(); opt.step(); opt.zero_grad()
    if x.device.type == 'cuda': torch.cuda.synchronize()
    return time.perf_counter()-start

def step_alone(learn, dtype, n=20):
    "Images a second where nothing is loaded"
    model,opt = learn.model.train(), opt_func('sgd')(model_splitter(learn.model), lr=.01)
    x,y = (o.as_subclass(torch.Tensor) for o in learn.dls.train.one_batch())
    wait = torch.cuda.synchronize if x.device.type == 'cuda' else lambda: None
    for i in range(n+3):
        if i == 3: wait(); start = time.perf_counter()
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None): loss = torch.nn.functional.cross_entropy(model(x).float(), y)
        loss.backward(); opt.step(); opt.zero_grad()
    wait()
    return n*len(x)/(time.perf_counter()-start)

def ours(learn, cfg):
    "Seconds for one epoch of training with everything on"
    learn.opt = None
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=ScheduleCallback(make_schedule(cfg, len(learn.dls.train))))
    return len(learn.dls.train_ds)/learn.recorder.stats[1]

def main():
    p = argparse.ArgumentParser()
    p.add_argument('--data-dir', required=True); p.add_argument('--size', type=int, default=64); p.add_argument('--batch-size', type=int, default=64)
    p.add_argument('--images', type=int, default=1280); p.add_argument('--repeats', type=int, default=5)
    p.add_argument('--workers', type=int, default=0); p.add_argument('--out')
    a = p.parse_args()
    cfg = Config(model='resnet50-pytorch', dataset='imagenet', data_dir=a.data_dir, size=a.size, batch_size=a.batch_size, scheduler='onecycle', epochs=1, num_workers=a.workers)
    src = get_source(cfg)
    n = len(src.items)
    src.items = src.items[[*range(0, src.n_train, src.n_train//a.images)][:a.images] + [n-1]] # a training set, and one item to test
    src.n_train = a.images
    learn = imagenet_learner(cfg, get_dls(cfg, src))
    dtype = learn.precision.current.dtype
    bare(learn, dtype); ours(learn, cfg) # a warm-up for each
    pairs = [(ours(learn, cfg), bare(learn, dtype)) for _ in range(a.repeats)]
    ratios = [b/o for o,b in pairs]
    save_result('loop', dict(step_alone_images_per_second=round(step_alone(learn, dtype, 20 if a.workers else 5), 1), workers=a.workers, model=cfg.model, size=a.size, batch_size=a.batch_size, images=a.images, precision=str(learn.precision.current), repeats=a.repeats,
        ours_images_per_second=round(a.images/statistics.median(o for o,_ in pairs), 1), bare_images_per_second=round(a.images/statistics.median(b for _,b in pairs), 1),
        ratio_median=round(statistics.median(ratios), 3), ratio_min=round(min(ratios), 3), ratio_max=round(max(ratios), 3)) | machine(), a.out)

if __name__ == '__main__': main()
