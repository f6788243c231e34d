"The benchmarks in small: what they compare can still be run, and says all that the docs show."
import json, os, subprocess, sys
import pytest
from conftest import root

@pytest.fixture
def bench(tmp_path, photos):
    "Run `bench/NAME.py …` on a few photographs; returns what it writes"
    def f(name, *words):
        out = tmp_path/f'{name}.json'
        env = os.environ | dict(PYTHONPATH=str(root), OMP_NUM_THREADS='1')
        r = subprocess.run([sys.executable, str(root/'bench'/f'{name}.py'), *map(str, words), '--out', str(out)], capture_output=True, text=True, timeout=300, env=env)
        assert r.returncode == 0, r.stderr[-2000:]
        return json.loads(out.read_text())
    return f

def test_input(bench, photos):
    d = bench('input', '--photos', photos/'train', '--small')
    ours,apart = d['contestants']['ours'],d['ours_ms_per_image']
    assert d['photos'] == 12 and d['cpus'] >= 1 and d['threads'] == dict(torch=1, opencv=1, omp=1)
    assert {'decode: OpenCV', 'ours', "ours: a worker's share", 'ours, 1 worker', 'ours, 2 workers', 'torchvision v2, tensors', 'timm', 'fastai'} <= set(d['contestants'])
    assert d['contestants']['decode: OpenCV']['ratio'] == dict(median=1, min=1, max=1) and ours['cores'] == 1 and 0 < ours['ratio']['min'] <= ours['ratio']['median']
    assert all(apart[k]['median'] > 0 for k in ('decode', 'warp', 'loader', 'collate', 'device')) # each part is still called by its name
    missing = {n for n in ('albumentations', 'turboloader', 'spdl') if any(n in o for o in d['absent'].values())}
    assert missing | set(d['others']) >= {'albumentations', 'turboloader', 'spdl'} # whoever does not take part is named

def test_input_plot(monkeypatch):
    monkeypatch.syspath_prepend(str(root/'bench'))
    monkeypatch.delitem(sys.modules, 'input', raising=False)
    from input import plot
    d = json.loads((root/'bench'/'results'/'input.json').read_text())
    ax = plot(d)
    assert len(ax.patches) == len(d['contestants']) and ax.patches[-1].get_width() == max(o['ratio']['median'] for o in d['contestants'].values())

def test_loop(bench, photos):
    d = bench('loop', '--data-dir', photos, '--images', 8, '--batch-size', 4, '--repeats', 1, '--only', 'WRN')
    row, = d['rows']
    assert row['model'] == 'wideresnet16-2' and row['images'] == 8 and row['ratio_min'] <= row['ratio_median'] <= row['ratio_max']
    one = bench('loop', '--data-dir', photos, '--size', 32, '--images', 8, '--batch-size', 4, '--repeats', 1) # as tools/gpu.py calls it
    assert one['model'] == 'resnet50-pytorch' and one['precision'] == one['bare_precision'] and one['ratio_median'] > 0 and 'rows' not in one
