"""What a packed dataset saves a worker, on one core: decoding by region, and the whole way from bytes to the augmented image. Writes bench/results/pack.json.

    python bench/pack.py --photos FOLDER [--images 200] [--repeats 7] [--out FILE]

FOLDER holds <class>/<file>, photographs of any size. Every figure is µs an image, the median over interleaved repeats; each repeat has other crops.
"""
import argparse, math, os, statistics, tempfile, time
from pathlib import Path
import cv2, numpy as np, torch
from common import machine, save_result
from imagenet_nb.core import address, addressed_draws
from imagenet_nb.data.augment import Warp, resized_crop, strength_for
from imagenet_nb.data.image import LazyImage, rgb_flags
from imagenet_nb.data.pack import Pack, make_pack

areas = (.08, .25, .35)

def pinned():
    "One core, one thread"
    if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(0); torch.set_num_threads(1)

def laid_out(photos, root, n):
    "A folder as imagenet_pack takes it, of links to `n` of the photographs, all in two classes; the second half is there for its form"
    files = sorted(f for f in Path(photos).glob('*/*') if f.is_file())
    files = files[::max(1, len(files)//n)][:n]
    for i,f in enumerate(files):
        for split in ('train', 'val'):
            if split == 'val' and i > 1: continue
            (root/split/'ab'[i%2]).mkdir(parents=True, exist_ok=True)
            (root/split/'ab'[i%2]/f'{i:05}{f.suffix}').symlink_to(f.absolute())
    return root

def plain_jpeg(img): return cv2.imencode('.jpg', img[...,::-1], [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1].ravel()

def crops(sizes, least, repeat):
    "Inception's boxes as integers, addressed"
    for i,wh in enumerate(sizes):
        with address(0, repeat, [i]): x,y,w,h = resized_crop(wh, addressed_draws('bench'), (least, 1.))
        yield math.floor(x),math.floor(y),math.ceil(x+w),math.ceil(y+h)

def rows_of(d, jpegs):
    "The same JPEGs through `datasets` (Arrow, memory-mapped): the time to read one at random, µs"
    import datasets
    datasets.disable_progress_bars()
    ds = datasets.Dataset.from_dict(dict(image=[dict(bytes=b.tobytes(), path=None) for b in jpegs], label=[0]*len(jpegs)))
    ds.cast_column('image', datasets.Image(decode=False)).save_to_disk(str(d/'arrow'))
    rows = datasets.load_from_disk(str(d/'arrow'))
    return lambda i: rows[i]['image']['bytes']

def ways(folder, packed, raw, plain, rows, warp, repeats):
    "name → what is done for image `i` in repeat `r`"
    p,q,n = Pack(packed),Pack(raw),len(plain)
    jpegs = [p[i].src for i in range(n)]
    sizes = [p[i].size for i in range(n)]
    files = [folder/os.fsdecode(f) for f in p.files[:n]]
    held = [f.read_bytes() for f in files]
    boxes = {(least, r): list(crops(sizes, least, r)) for least in areas for r in range(repeats+1)}
    def worker(make):
        def one(i, r):
            with address(0, r, [i]): warp(make(i), split_idx=0)
        return one
    def region(least): return lambda i, r: p[i].region(boxes[least,r][i])
    return {'decode only, packed JPEGs': lambda i, r: cv2.imdecode(jpegs[i], rgb_flags[1]),
            'decode only, the same without markers': lambda i, r: cv2.imdecode(plain[i], rgb_flags[1]),
            **{f'region, areas from {o}': region(o) for o in areas},
            'worker, packed JPEGs by region': worker(p.__getitem__),
            'worker, packed JPEGs in full': worker(lambda i: LazyImage.create(jpegs[i].tobytes())),
            'worker, packed pixels': worker(q.__getitem__),
            'worker, folder at full size': worker(lambda i: LazyImage.create(files[i])),
            'decode only, folder at full size': lambda i, r: cv2.imdecode(np.frombuffer(held[i], np.uint8), rgb_flags[1]),
            'read only, pack': lambda i, r: p[i],
            'read only, datasets': lambda i, r: rows(i)}

def timed(f, n, r):
    start = time.perf_counter()
    for i in range(n): f(i, r)
    return (time.perf_counter()-start)/n*1e6

def ratio(took, a, b): return round(statistics.median(x/y for x,y in zip(took[a], took[b])), 3)

def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument('--photos', required=True); a.add_argument('--images', type=int, default=200)
    a.add_argument('--repeats', type=int, default=7); a.add_argument('--out')
    a = a.parse_args()
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        folder = laid_out(a.photos, d/'photos', a.images)
        make_pack(folder, d/'packed'); make_pack(folder, d/'raw', raw=True)
        pinned()
        p,raw = Pack(d/'packed'),Pack(d/'raw')
        n = p.n_train
        plain = [plain_jpeg(raw[i].decode()) for i in range(n)]
        todo = ways(folder, d/'packed', d/'raw', plain, rows_of(d, [p[i].src for i in range(n)]), Warp(224, strength_for('strong', 224)), a.repeats)
        took = {k: [] for k in todo}
        for r in range(a.repeats+1): # the first round warms up
            for k,f in todo.items():
                t = timed(f, n, r)
                if r: took[k].append(t)
        size = {k: int(o.rows['length'][:n].sum()) for k,o in dict(jpeg=p, raw=raw).items()}
        only = 'decode only, packed JPEGs'
        save_result('pack', dict(images=n, repeats=a.repeats, output=224, augmentation='strong', size=256, quality=90,
            microseconds={k: dict(median=round(statistics.median(v), 1), min=round(min(v), 1), max=round(max(v), 1)) for k,v in took.items()},
            region_times_decode_only={str(o): ratio(took, only, f'region, areas from {o}') for o in areas},
            worker_share_of_decode_only={k: ratio(took, only, k) for k in todo if k.startswith('worker')},
            bytes=dict(folder=sum((folder/os.fsdecode(f)).stat().st_size for f in p.files[:n]), **size, markers_and_table_percent=round(100*(size['jpeg']/sum(map(len, plain))-1), 2)),
            ffcv='not measured: there is no wheel of it on PyPI') | machine(), a.out)

if __name__ == '__main__': main()
