"""What only a GPU can show, in one command of at most 8 minutes and without a network: `make gpu` where the photographs are, or

    python tools/gpu.py pack FOLDER photos.tgz      # Imagenette at 144 px as WebP, under 48 MB, padding compressed: one file to carry along
    python tools/gpu.py run photos.tgz gpu.json     # tests, the loop beside a bare one, loading by workers from the folder and from a pack of it, five epochs
    python tools/gpu.py run … --wheels DIR          # what that machine lacks (fastai), installed from DIR for this call
    python tools/gpu.py run … --small               # the same on a CPU in minutes, so that this script cannot rot
Each part is a process with a limit of its own; what one finds is written before the next begins.
"""
import argparse, io, json, os, subprocess, sys, tarfile, tempfile, time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def webp(path, size=144):
    "The photograph at `path` with a short side of `size` px"
    from PIL import Image
    im = Image.open(path).convert('RGB')
    k = size/min(im.size)
    im.resize([max(size, round(o*k)) for o in im.size], Image.Resampling.LANCZOS).save(out := io.BytesIO(), 'webp', quality=70)
    return out.getvalue()

def pack(folder, tar):
    "A folder of photographs as one tar file; only whole ones get the name"
    files = sorted(p for p in Path(folder).rglob('*') if p.is_file())
    part = Path(f'{tar}.part')
    part.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(part, 'w:gz', compresslevel=1) as t, ThreadPoolExecutor() as pool:
        for p,b in zip(files, pool.map(webp, files)):
            info = tarfile.TarInfo(str(p.relative_to(folder).with_suffix('.webp'))); info.size = len(b)
            t.addfile(info, io.BytesIO(b))
    part.replace(tar)
    print(f'{len(files)} photographs, {Path(tar).stat().st_size/1e6:.1f} MB in {tar}')

def call(*words, limit, **env):
    "Run Python with `words`; (exit code, None where the time was up; the end of what it said)"
    p = subprocess.Popen([sys.executable, *map(str, words)], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace',
                         env=os.environ | env, start_new_session=True)
    try: out = p.communicate(timeout=limit)[0]
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, 9)
        return None, p.communicate()[0][-3000:]
    return p.returncode, out[-3000:]

def tests(tmp, limit, *words, **env):
    "How many tests of pytest's `words` passed, and what the others said"
    code,out = call('-m', 'pytest', '-q', '-p', 'no:cacheprovider', f'--junitxml={tmp}/t.xml', *words, limit=limit, **env)
    if code is None or not (tmp/'t.xml').exists(): return dict(passed=0, ended=code, out=out)
    cases = list(ET.parse(tmp/'t.xml').iter('testcase')); (tmp/'t.xml').unlink()
    bad = {c.get('name'): (f.get('message') or '')[:600] + '\n' + (f.text or '')[-900:] for c in cases for f in [*c.findall('failure'), *c.findall('error')]}
    skipped = sum(c.find('skipped') is not None for c in cases)
    return dict(passed=len(cases)-len(bad)-skipped, skipped=skipped, failed=bad)

def loaded(data, size, images, workers):
    "In a process of its own: batches as the command gets them, ready on the device, images a second for each number of workers"
    import torch
    from imagenet_nb.all import Config, get_dls, get_source
    from imagenet_nb.callback.precision import choose_device
    device,res = choose_device(),{}
    for w in workers:
        cfg = Config(model='resnet50', dataset='imagenet', data_dir=data, size=size, batch_size=64, num_workers=w)
        src = get_source(cfg)
        src.items = src.items[[*range(0, src.n_train, max(1, src.n_train//images))][:images] + [len(src.items)-1]]; src.n_train = len(src.items)-1
        dl,times = get_dls(cfg, src, device).train,[]
        for i,b in enumerate(dl):
            if device.type == 'cuda': torch.cuda.synchronize()
            times.append(time.perf_counter())
        res[w] = round((len(times)-3)*64/(times[-2]-times[1])) # without the start of the workers and the last, smaller batch
    print(json.dumps(res))

def facts():
    import platform, torch
    gpu = torch.cuda.is_available()
    return dict(gpu=torch.cuda.get_device_name() if gpu else None, cpus=len(os.sched_getaffinity(0)), python=platform.python_version(), torch=torch.__version__,
                cudnn=torch.backends.cudnn.version() if gpu else None)

def run(tar, out, wheels=None, small=False):
    "All parts; `out` holds what is known so far"
    start,res = time.monotonic(),facts()
    def keep(name, found):
        res[name],res['seconds'] = found,round(time.monotonic()-start)
        Path(out).write_text(json.dumps(res, indent=1) + '\n')
        print(f'{res["seconds"]} s: {name} {json.dumps(found)[:1500]}', flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        if wheels:
            call('-m', 'pip', 'install', '-q', '--no-index', '--no-deps', '--target', tmp/'site', *Path(wheels).glob('*.whl'), limit=60)
            os.environ['PYTHONPATH'] = f'{tmp/"site"}:{root}'
        with tarfile.open(tar) as t: t.extractall(tmp/'data', filter='data')
        os.environ['IMAGENETTE_DIR'] = data = str(tmp/'data')
        keep('cuda_tests', tests(tmp, 150, 'tests/test_cuda.py', *['-n', '6']*(not small), '--dist', 'worksteal'))
        if not small: keep('combinations', tests(tmp, 150, 'tests/test_combinations.py', '-n', '12', '--dist', 'worksteal', IMAGENET_NB_CELLS='all', IMAGENET_NB_DEVICE='cuda', OMP_NUM_THREADS='1'))
        for size in (32,) if small else (128, 224):
            n,bs,w = (128, 32, 0) if small else (7680, 256, 14)
            code,said = call('bench/loop.py', '--data-dir', data, '--size', size, '--batch-size', bs, '--images', n, '--repeats', 1 if small else 3, '--workers', w, '--out', tmp/'loop.json', limit=110)
            keep(f'loop_{size}', json.loads((tmp/'loop.json').read_text()) if code == 0 else said)
        for what,place in (('folder', data), ('pack', tmp/'packed')): # the folder's WebP is decoded whole, the pack's JPEG by region
            if what == 'pack': call('-c', 'from imagenet_nb.cli import pack_command; pack_command()', data, place, '--size', 144, limit=60)
            code,said = call(__file__, 'loaded', place, 32 if small else 128, 512 if small else 4000, *((0, 1) if small else (1, 2, 4, 8, 14)), limit=60)
            keep(f'loaded_{what}', json.loads(said.strip().splitlines()[-1]) if code == 0 else said)
        words = ['--size', '32', '--epochs', '1', '--model', 'wideresnet10-1', '--batch-size', '256'] if small else ['--size', '128', '--epochs', '5', '--batch-size', '128']
        code,said = call('train.py', '--dataset', 'imagenet', '--data-dir', data, '--scheduler', 'onecycle', '--checkpoint-dir', tmp/'run', *words, limit=120)
        keep('train', {k: v for k,v in json.loads((tmp/'run'/'metrics.json').read_text()).items() if k in ('test_accuracies', 'seconds', 'images_per_second', 'data_wait_share')} | dict(said=said[-600:])
             if code == 0 else said)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest='what', required=True)
    a = sub.add_parser('pack'); a.add_argument('folder'); a.add_argument('tar')
    a = sub.add_parser('run'); a.add_argument('tar'); a.add_argument('out'); a.add_argument('--wheels'); a.add_argument('--small', action='store_true')
    a = sub.add_parser('loaded'); a.add_argument('data'); a.add_argument('size', type=int); a.add_argument('images', type=int); a.add_argument('workers', type=int, nargs='+')
    kw = vars(p.parse_args())
    dict(pack=pack, run=run, loaded=loaded)[kw.pop('what')](**kw)

if __name__ == '__main__': main()
