"A packed dataset with real processes: killed and gone on with, damaged, refused, and trained on like the folder that it was made from."
import json, os, pickle, shutil, signal, subprocess, sys
from pathlib import Path
import numpy as np
import pytest, torch
from PIL import Image
from conftest import until
from imagenet_nb.core import UserError
from imagenet_nb.data.image import LazyImage, drawn_card
from imagenet_nb.data.pack import Pack, check_pack, make_pack
from imagenet_nb.data.source import folder_source

def command(name, *words):
    "The words that call a console script, whatever is installed"
    return [sys.executable, '-c', f'from imagenet_nb.cli import {name}_command; {name}_command()', *map(str, words)]

def call(name, *words, **kw):
    return subprocess.run(command(name, *words), capture_output=True, text=True, timeout=300, **kw)

def draw(root, n=(40, 8)):
    "A folder of cards, two of which are damaged; the noise makes them as large as photographs"
    rng = np.random.RandomState(0)
    def noisy(im): return Image.fromarray((np.asarray(im) + rng.randint(0, 60, im.size[::-1])[...,None]).clip(0, 255).astype(np.uint8))
    for split,k in zip(('train', 'val'), n):
        for c in ('cat', 'dog', 'owl'):
            (root/split/c).mkdir(parents=True)
            for i in range(k): noisy(drawn_card(330+7*i, 300-i).rotate(3*i)).save(root/split/c/f'{i:03}.jpg', quality=95)
    (root/'train'/'dog'/'005.jpg').write_bytes(b'')
    (root/'val'/'cat'/'002.jpg').write_bytes((root/'val'/'cat'/'003.jpg').read_bytes()[:3000])
    return root

bad = ['train/dog/005.jpg', 'val/cat/002.jpg']

@pytest.fixture(scope='module')
def cards(tmp_path_factory): return draw(tmp_path_factory.mktemp('cards')/'photos')

@pytest.fixture(scope='module')
def packed(cards):
    r = call('pack', cards, cards.parent/'packed', '--size', 160, '--part', 1)
    assert r.returncode == 0 and '2 images cannot be read' in r.stdout and r.stdout.count('\n') == 1, r.stderr
    return cards.parent/'packed'

def contents(folder): return {p.name: p.read_bytes() for p in folder.iterdir()}

def test_killed_and_resumed(cards, packed, tmp_path):
    "Whenever the process is killed, calling it again gives the same bytes"
    assert len(list(packed.glob('part-*.bin'))) >= 3 # several parts, so that something can be kept
    for k in (0, 1):
        dst = tmp_path/f'killed{k}'
        p = subprocess.Popen(command('pack', cards, dst, '--size', 160, '--part', 1, '--workers', 1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        there = (lambda: (dst/'part-00001.npz').exists()) if k else (lambda: any(dst.glob('.part-00000.bin.*')))
        until(there, 'a part to be written')
        p.send_signal(signal.SIGKILL); p.wait()
        assert not (dst/'pack.npz').exists()
        if k:
            r = call('train', '--dataset', 'imagenet', '--data-dir', dst, cwd=tmp_path)
            assert r.returncode == 2 and 'this pack is not finished' in r.stderr
        kept = (dst/'part-00000.bin').stat().st_mtime_ns if k else None
        r = call('pack', cards, dst, '--size', 160, '--part', 1)
        assert r.returncode == 0 and ('goes on after' in r.stdout) == bool(k), r.stdout + r.stderr
        assert contents(dst) == contents(packed)
        if k: assert (dst/'part-00000.bin').stat().st_mtime_ns == kept
    r = call('pack', cards, dst, '--size', 160, '--part', 1)
    assert r.returncode == 0 and 'was finished before' in r.stdout

def test_begun_anew(cards, packed, tmp_path):
    "Parts of other files or other options are not kept"
    src,dst = shutil.copytree(cards, tmp_path/'photos'),tmp_path/'packed'
    p = subprocess.Popen(command('pack', src, dst, '--size', 160, '--part', 1, '--workers', 1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: (dst/'part-00000.npz').exists(), 'a part to be written')
    p.kill(); p.wait()
    drawn_card(300, 300).save(src/'train'/'cat'/'000.jpg')
    r = call('pack', src, dst, '--size', 160, '--part', 1)
    assert r.returncode == 0 and 'begun anew' in r.stdout and Pack(dst)[0].size == (160, 160)

def test_the_same_dataset(cards, packed):
    "Labels, order, words and places of a pack are those of the folder; its images are what they were, resized"
    a,b = folder_source(cards),folder_source(packed)
    assert (a.ids, a.names, a.n_train) == (b.ids, b.names, b.n_train) and (a.items['y'] == b.items['y']).all()
    assert [os.fsdecode(f) for f in b.opener.pack.files] == [os.fsdecode(f) for f in a.items['x']]
    for i in (0, 50, len(a.items)-1):
        x,y = LazyImage.create(a.opener(a.items[i])),b.opener(b.items[i])
        assert min(y.size) == 160 and abs(y.size[0]/y.size[1] - x.size[0]/x.size[1]) < .01
        small = LazyImage.create(np.asarray(Image.fromarray(x.decode()).resize(y.size))).decode()
        assert np.abs(small.astype(int) - y.decode()).mean() < 4

def test_check(cards, packed, tmp_path):
    r = call('check', packed, '--decode', '--json')
    assert r.returncode == 1, r.stderr
    found,folder = json.loads(r.stdout),json.loads(call('check', cards, '--decode', '--json', env=os.environ | dict(XDG_CACHE_HOME=str(tmp_path))).stdout)
    assert {os.path.relpath(p, packed): why for p,why in found['bad_files'].items()} == {os.path.relpath(p, cards): why for p,why in folder['bad_files'].items()}
    assert sorted(os.path.relpath(p, packed) for p in found['bad_files']) == bad
    for k in ('classes', 'class_ids', 'train_items', 'valid_items', 'smallest_class'): assert found[k] == folder[k]

def test_damage(packed, tmp_path):
    "A flipped bit is a file that cannot be read; a part that is cut or gone, or an index that is, is one line"
    hurt = shutil.copytree(packed, tmp_path/'hurt')
    row = Pack(packed).rows[7]
    with open(hurt/f'part-{row["part"]:05}.bin', 'rb+') as f:
        f.seek(int(row['at']) + 4000); f.write(b'oops')
    r = call('check', hurt)
    assert r.returncode == 1 and 'train/cat/007.jpg\tits checksum is wrong' in r.stdout and '3 files cannot be used' in r.stdout
    with pytest.raises(OSError) as e: Pack(hurt)[7]
    assert e.value.why == 'its checksum is wrong' and e.value.filename == str(hurt/'train/cat/007.jpg')
    def line(*words):
        r = call(*words, cwd=tmp_path)
        assert r.returncode == 2 and len(r.stderr.splitlines()) == 1 and 'make it again' in r.stderr, r.stderr
        return r.stderr
    with open(hurt/'part-00001.bin', 'rb+') as f: f.truncate(1000)
    assert 'part-00001.bin has 1000 bytes' in line('check', hurt)
    (hurt/'part-00001.bin').unlink()
    assert 'part-00001.bin has no bytes' in line('train', '--dataset', 'imagenet', '--data-dir', hurt)
    (hurt/'pack.npz').write_bytes((hurt/'pack.npz').read_bytes()[:-500])
    assert 'pack.npz is damaged' in line('check', hurt)

def test_refusals(cards, packed, tmp_path):
    "What is somebody's is left alone, in one line"
    (tmp_path/'full').mkdir(); (tmp_path/'full'/'thesis.txt').touch(); (tmp_path/'file').touch()
    for dst,words in ((tmp_path/'full', 'holds other things, such as thesis.txt'), (tmp_path/'file', 'this is a file'), (cards/'x', 'lies in'), (cards.parent, 'lies in it'),
                      (packed, 'finished pack of other files or with other options')):
        with pytest.raises(UserError, match=words): make_pack(cards, dst)
    for src,words in ((packed, 'a pack already'), (tmp_path/'none', 'no such folder')):
        r = call('pack', src, tmp_path/'a')
        assert r.returncode == 2 and words in r.stderr and len(r.stderr.splitlines()) == 1 and '--data-dir' not in r.stderr, r.stderr
    assert not (tmp_path/'a').exists() and os.listdir(tmp_path/'full') == ['thesis.txt']

def small_disk(tmp_path):
    disk = tmp_path/'disk'
    disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1500k', 'tmpfs', disk], capture_output=True).returncode: pytest.skip('no small disk can be mounted here')
    return disk

def test_full_disk(cards, packed, tmp_path):
    "One line, and with more room it goes on"
    disk = small_disk(tmp_path)
    try:
        r = call('pack', cards, disk/'packed', '--size', 160, '--part', 1)
        assert r.returncode == 2 and 'the disk is full' in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
        subprocess.run(['mount', '-o', 'remount,size=50m', disk], check=True)
        r = call('pack', cards, disk/'packed', '--size', 160, '--part', 1)
        assert r.returncode == 0 and 'goes on after' in r.stdout and contents(disk/'packed') == contents(packed)
    finally: subprocess.run(['umount', disk])

tiny = ['--dataset', 'imagenet', '--model', 'timm/resnet10t', '--size', '32', '--batch-size', '24', '--epochs', '1', '--max-bad-files', '0.5', '--scheduler', 'onecycle']

def test_training(cards, packed, tmp_path):
    "An epoch from the folder, from the pack, from pixels: the same order and the same bad files, nearly the same losses"
    raw = tmp_path/'raw'
    make_pack(cards, raw, 160, raw=True, workers=1)
    losses,listed = {},{}
    for name,root in dict(folder=cards, packed=packed, raw=raw).items():
        r = call('train', *tiny, '--data-dir', root, '--checkpoint-dir', name, cwd=tmp_path)
        assert r.returncode == 0, r.stderr
        h = json.loads((tmp_path/name/'metrics.json').read_text())
        losses[name] = h['train_losses']+h['test_losses']
        listed[name] = [os.path.relpath(l.split('\t')[0], root) for l in (tmp_path/name/'bad_files.txt').read_text().splitlines()]
    assert sorted(listed['folder']) == bad and listed['packed'] == listed['raw'] == listed['folder']
    assert np.allclose(losses['packed'], losses['folder'], rtol=.05) and np.allclose(losses['raw'], losses['folder'], rtol=.05), losses

def test_batches(cards, packed):
    "Item by item: the same order, and the same crop, flip and turn of the same picture; from workers of every kind the same bytes"
    import multiprocessing, torch
    from imagenet_nb.config import Config
    from imagenet_nb.data.source import get_dls
    def epoch(root, n=0, method=None):
        if method: multiprocessing.set_start_method(method, force=True)
        try:
            dls = get_dls(Config(dataset='imagenet', data_dir=str(root), size=64, batch_size=16, num_workers=n))
            for dl in dls.loaders: dl.bad_log = os.devnull
            dls.train.after_batch.fs.clear()
            return [torch.cat([t.as_subclass(torch.Tensor) for t in o]) for o in zip(*dls.train)]
        finally: multiprocessing.set_start_method(None, force=True)
    (xa,ya),(xb,yb) = epoch(cards),epoch(packed)
    assert torch.equal(ya, yb) and (xa.float()-xb.float()).abs().mean((1,2,3)).max() < 12 and (xa.float()-xb.float()).abs().mean() < 4
    for method in ('fork', 'forkserver'): assert torch.equal(epoch(packed, 2, method)[0], xb)

def test_photographs(photos, tmp_path):
    "Imagenette's photographs: a pack at their own size decodes like the folder, by region or not"
    src = tmp_path/'photos'
    for split,n in (('train', 12), ('val', 3)):
        for c in sorted(o for o in (photos/split).iterdir() if o.is_dir())[:4]:
            (src/split/c.name).mkdir(parents=True)
            for f in sorted(c.iterdir())[:n]: (src/split/c.name/f.name).symlink_to(f)
    make_pack(src, tmp_path/'packed', 128, quality=95, workers=1)
    p = Pack(tmp_path/'packed')
    assert not check_pack(tmp_path/'packed', decode=True, workers=1)['bad_files']
    rng = np.random.RandomState(0)
    for i in range(len(p)):
        x,full = p[i],p[i].decode()
        (w,h),(x0,y0) = x.size,rng.randint(0, 100, 2)
        a,left,top,k = x.region((x0, y0, rng.randint(x0+1, w+1), rng.randint(y0+1, h+1)))
        assert k == 1 and (a == full[top:top+a.shape[0],left:left+a.shape[1]]).all() and (LazyImage.create(x.src.tobytes()).decode() == full).all()
    b = folder_source(tmp_path/'packed')
    assert b.names[0] != b.ids[0] # words for WordNet's numbers

def test_imagenette_by_name(cards, packed, tmp_path):
    "`--dataset imagenette` and the rest take a pack, too; and what is no pack is still said in a line"
    r = call('train', '--dataset', 'imagenette', '--data-dir', packed, '--model', 'timm/resnet10t', '--size', 32, '--batch-size', 24, '--epochs', 1, '--dry-run', cwd=tmp_path)
    assert r.returncode == 0 and '120' in r.stdout, r.stderr
    with pytest.raises(UserError, match='no such folder'): folder_source(tmp_path/'nothing')

def test_an_exported_learner_needs_no_pack(cards, packed, tmp_path):
    "Made from a pack, it predicts where no pack is, and where there is one a copy reads it"
    from fastai.learner import load_learner
    from imagenet_nb.config import Config
    from imagenet_nb.run.learner import imagenet_learner
    shutil.copytree(packed, tmp_path/'pack')
    learn = imagenet_learner(Config(dataset='imagenet', data_dir=str(tmp_path/'pack'), model='timm/resnet10t', size=32, batch_size=8, num_workers=0, device='cpu'))
    card = next(o for o in (cards/'train'/'cat').iterdir() if o.stat().st_size > 1000)
    want = learn.predict(card)[2]
    copy = pickle.loads(pickle.dumps(learn.dls.train_ds.tls[0].tfms[0]))
    assert (copy.pack[0].decode() == learn.dls.train_ds.tls[0].tfms[0].pack[0].decode()).all()
    learn.path = tmp_path; learn.export('l.pkl')
    shutil.rmtree(tmp_path/'pack')
    back = load_learner(tmp_path/'l.pkl')
    assert torch.allclose(back.predict(card)[2], want, atol=1e-4)
