"What the benchmarks share: the facts of the machine, and where results go."
import json, os, platform, statistics, sys
from pathlib import Path

results = Path(__file__).parent/'results'

def machine() -> dict:
    "What a figure was measured on"
    from imagenet_nb.model.weights import versions
    cpu = next((o.split(':')[1].strip() for o in open('/proc/cpuinfo') if o.startswith('model name')), platform.processor()) if sys.platform == 'linux' else platform.processor()
    return dict(cpu=cpu, cpus=len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(), versions=versions())

def save_result(name, d, out=None):
    "Print `d` and write it to bench/results, or to the file `out`"
    results.mkdir(exist_ok=True)
    Path(out or results/f'{name}.json').write_text(json.dumps(d, indent=1) + '\n')
    print(json.dumps(d, indent=1))

def spread(values, digits=3) -> dict:
    "Median, smallest and largest"
    values = list(values)
    return {k: float(f'{f(values):.{digits}g}') for k,f in (('median', statistics.median), ('min', min), ('max', max))}

def photo_tree(photos, root, n) -> list:
    "Links to `n` of the photographs in `photos` (`<class>/<file>`) as the folder `root` with train/ and val/; returns their paths"
    found = sorted(p for p in Path(photos).glob('*/*') if p.suffix.lower() in ('.jpg', '.jpeg'))
    if not found: sys.exit(f'error: {photos}: no <class>/<file>.jpg in it')
    for p in found[::max(1, len(found)//n)][:n]:
        link = Path(root)/'train'/p.parent.name/p.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(p.resolve())
    (Path(root)/'val').symlink_to(Path(root)/'train')
    return sorted(map(str, (Path(root)/'train').glob('*/*')))

def run_result(folder, cfg, test_items) -> dict:
    "The figures of a finished run, from its own files"
    h = json.loads((Path(folder)/'metrics.json').read_text())
    return dict(model=cfg.model, dataset=cfg.dataset, size=cfg.image_size, epochs=len(h['epochs']), batch_size=cfg.batch_size, seed=cfg.seed,
        best_test_accuracy=h['best_test_accuracy'], best_epoch=h['best_epoch'], test_items=test_items, train_seconds=round(sum(h['seconds']), 1),
        images_per_second=[round(o) for o in h['images_per_second']], test_accuracies=[round(o, 2) for o in h['test_accuracies']]) | machine()
