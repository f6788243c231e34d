"""How many worker processes pay on this machine: training speed with 0, 1 and 2 of them. Writes bench/results/workers.json.

    python bench/workers.py --data-dir FOLDER [--size 64] [--images 960] [--repeats 3]
"""
import argparse, statistics
from common import machine, save_result
from imagenet_nb.all import Config, get_dls, get_source, imagenet_learner

def main():
    p = argparse.ArgumentParser()
    p.add_argument('--data-dir', required=True); p.add_argument('--size', type=int, default=64)
    p.add_argument('--images', type=int, default=960); p.add_argument('--repeats', type=int, default=3)
    a = p.parse_args()
    cfg = Config(model='resnet50-pytorch', dataset='imagenet', data_dir=a.data_dir, size=a.size, batch_size=64, epochs=1)
    src = get_source(cfg)
    src.items = src.items[[*range(0, src.n_train, src.n_train//a.images)][:a.images] + [len(src.items)-1]]
    src.n_train = a.images
    speed = {w: [] for w in (0, 1, 2)}
    for r in range(a.repeats+1): # the first round warms up
        for w in speed:
            cfg.num_workers = w
            learn = imagenet_learner(cfg, get_dls(cfg, src))
            with learn.no_bar(), learn.no_logging(): learn.fit(1)
            if r: speed[w].append(learn.recorder.stats[1])
    save_result('workers', dict(model=cfg.model, size=a.size, images=a.images, repeats=a.repeats,
        images_per_second={w: dict(median=round(statistics.median(v), 1), min=round(min(v), 1), max=round(max(v), 1)) for w,v in speed.items()}) | machine())

if __name__ == '__main__': main()
