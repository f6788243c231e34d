"""What the plan says that an epoch will take, beside what it took. Writes bench/results/predict.json.

    python bench/predict.py --data-dir FOLDER [--model timm/resnet18] [--sizes 64 128] [--images 640] [--batch-size 64] [--repeats 3] [--out FILE]

FOLDER holds train/<class>/<file>; `--images` of its photographs are linked into a temporary folder. At each size, in turns: `train.py … --dry-run --json` gives
`seconds_per_epoch`, then the same command without it trains one epoch. Compared is the training pass alone, as the plan promises: what it took is the number of training
items over `images_per_second` in the run's metrics.json (its `seconds` has the test in it, too). Both are real processes, first epoch and all.
"""
import argparse, json, os, subprocess, sys, tempfile
from pathlib import Path
from common import machine, photo_tree, save_result, spread

def train(*words):
    root = Path(__file__).resolve().parent.parent
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(filter(None, [str(root), os.environ.get('PYTHONPATH')])))
    r = subprocess.run([sys.executable, str(root/'train.py'), *map(str, words)], capture_output=True, text=True, env=env, cwd=words[words.index('--data-dir')+1])
    if r.returncode: sys.exit(f'error: train.py {" ".join(map(str, words))}\n{r.stderr}')
    return r.stdout

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data-dir', required=True); p.add_argument('--model', default='timm/resnet18'); p.add_argument('--sizes', nargs='+', type=int, default=[64, 128]); p.add_argument('--out')
    for k,v in dict(images=640, batch_size=64, repeats=3).items(): p.add_argument(f'--{k.replace("_", "-")}', type=int, default=v)
    a = p.parse_args()
    found = {s: [] for s in a.sizes}
    with tempfile.TemporaryDirectory() as tmp:
        n = len(photo_tree(Path(a.data_dir)/'train', tmp, a.images))
        for k in range(a.repeats):
            for s in a.sizes:
                words = ['--model', a.model, '--dataset', 'imagenet', '--data-dir', tmp, '--size', s, '--batch-size', a.batch_size, '--epochs', 1, '--scheduler', 'onecycle']
                plan = json.loads(train(*words, '--dry-run', '--json'))
                train(*words, '--checkpoint-dir', f'{tmp}/run_{s}_{k}')
                h = json.loads(Path(f'{tmp}/run_{s}_{k}/metrics.json').read_text())
                found[s].append((plan['seconds_per_epoch'], n/h['images_per_second'][0], h['seconds'][0]))
    rows = [dict(size=s, predicted_seconds=spread(o[0] for o in f), actual_seconds=spread(o[1] for o in f), seconds_with_test=spread(o[2] for o in f), predicted_to_actual=spread(o[0]/o[1] for o in f)) for s,f in found.items()]
    save_result('predict', dict(model=a.model, images=n, batch_size=a.batch_size, repeats=a.repeats, precision=plan['precision'], workers=plan['workers'], rows=rows) | machine(), a.out)

if __name__ == '__main__': main()
