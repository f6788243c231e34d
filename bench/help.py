"""How long `--help` takes beside a bare Python, and the imports of a notebook beside fastai's own: medians over several processes. Writes bench/results/help.json.

    python bench/help.py [--repeats 9]
"""
import argparse, statistics, subprocess, sys, time
from pathlib import Path
from common import machine, save_result

def seconds(*words):
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter()-start

def main():
    p = argparse.ArgumentParser(); p.add_argument('--repeats', type=int, default=9); a = p.parse_args()
    train = str(Path(__file__).parent.parent/'train.py')
    calls = dict(bare=(sys.executable, '-c', 'pass'), help=(sys.executable, train, '--help'), mistake=(sys.executable, '-c', f'import subprocess, sys; sys.exit(subprocess.run([sys.executable, {train!r}, "--epocs", "3"], stderr=-3).returncode != 2)'))
    calls |= {f'import {o}': (sys.executable, '-c', f'from {o} import *') for o in ('fastai.vision.all', 'imagenet_nb.all')}
    took = {k: [] for k in calls}
    for _ in range(a.repeats):
        for k,c in calls.items(): took[k].append(seconds(*c))
    ratios = [b/c for b,c in zip(took['import imagenet_nb.all'], took['import fastai.vision.all'])]
    save_result('help', dict(repeats=a.repeats, import_ratio=round(statistics.median(ratios), 3), seconds={k: dict(median=round(statistics.median(v), 3), min=round(min(v), 3), max=round(max(v), 3)) for k,v in took.items()}) | machine())

if __name__ == '__main__': main()
