"""What each method of the LR finder reads from the same curve: resnet50-pytorch from scratch on 64 px photographs, two seeds. Writes bench/results/finder.json.

    python bench/finder.py --data-dir FOLDER [--steps 200]
"""
import argparse
from common import machine, save_result
from imagenet_nb.all import Config, imagenet_learner
from imagenet_nb.callback.lr_find import methods, range_test, suggest

def main():
    p = argparse.ArgumentParser(); p.add_argument('--data-dir', required=True); p.add_argument('--steps', type=int, default=200); a = p.parse_args()
    found = {}
    for seed in (1, 2):
        cfg = Config(model='resnet50-pytorch', dataset='imagenet', data_dir=a.data_dir, size=64, batch_size=64, scheduler='onecycle', epochs=10, seed=seed)
        curve = range_test(imagenet_learner(cfg), 1e-5, 10, a.steps)
        found[seed] = {m: lr and float(f'{lr:.3g}') for m in methods if m != 'manual' for lr in [suggest(*curve, m).lr]}
    save_result('finder', dict(model=cfg.model, size=cfg.size, steps=a.steps, range=[1e-5, 10], suggested=found) | machine())

if __name__ == '__main__': main()
