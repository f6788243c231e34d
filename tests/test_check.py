"A corpus of odd and broken files through `imagenet_check` and through a training epoch."
import io, json, os, struct, subprocess, zlib
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
from imagenet_nb.data.image import LazyImage

rng = np.random.RandomState(0)
def photo(w=64, h=48):
    y,x = np.mgrid[:h,:w]
    return Image.fromarray(np.stack([40+3*x, 60+3*y, 255-3*x], -1).clip(0, 255).astype(np.uint8))
def encoded(im=None, fmt='JPEG', **kw):
    b = io.BytesIO(); (im or photo()).save(b, fmt, **kw); return b.getvalue()
jpeg = encoded(quality=92)
png = encoded(fmt='PNG')

def exif(orientation=None, junk=b''):
    e = Image.Exif()
    if orientation: e[0x0112] = orientation
    return e.tobytes()+junk if orientation else b'Exif\0\0'+junk

def with_app1(block):
    "A JPEG with this APP1 segment, whatever is in it"
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(block)+2) + block + jpeg[2:]

def png_size(w, h):
    "A PNG whose header claims another size"
    ihdr = b'IHDR' + struct.pack('>II', w, h) + png[24:29]
    return png[:8] + struct.pack('>I', 13) + ihdr + struct.pack('>I', zlib.crc32(ihdr)) + png[33:]

def jpeg_size(w, h):
    "A JPEG whose frame header claims another size"
    i = jpeg.index(b'\xff\xc0')
    return jpeg[:i+5] + struct.pack('>HH', h, w) + jpeg[i+9:]

good = { # these come out as RGB
    'plain.jpg': jpeg, 'upper.JPEG': jpeg, 'progressive.jpg': encoded(progressive=True), 'low.jpg': encoded(quality=1), 'full.jpg': encoded(subsampling=0), 'png_named.JPEG': png, 'jpeg_named.png': jpeg,
    'cmyk.jpg': encoded(photo().convert('CMYK')), 'gray.jpg': encoded(photo().convert('L')), 'gray.png': encoded(photo().convert('L'), 'PNG'), 'gray16.png': encoded(Image.fromarray((np.arange(3072).reshape(48, 64)*20).astype(np.uint16)), 'PNG'),
    'palette.png': encoded(photo().convert('P'), 'PNG'), 'alpha.png': encoded(photo().convert('RGBA'), 'PNG'), 'la.png': encoded(photo().convert('LA'), 'PNG'), 'bilevel.png': encoded(photo().convert('1'), 'PNG'),
    'still.gif': encoded(photo().convert('P'), 'GIF'), 'animated.gif': encoded(photo().convert('P'), 'GIF', save_all=True, append_images=[photo().rotate(180).convert('P')]*3), 'animated.webp': encoded(photo(), 'WEBP', save_all=True, append_images=[photo().rotate(180)]),
    'web.webp': encoded(photo(), 'WEBP'), 'map.bmp': encoded(photo(), 'BMP'), 'scan.tif': encoded(photo(), 'TIFF'), 'cmyk.tif': encoded(photo().convert('CMYK'), 'TIFF'), **{f'turn{o}.jpg': encoded(exif=exif(o)) for o in range(1, 9)},
    'exif_junk.jpg': with_app1(b'Exif\0\0' + bytes(rng.randint(0, 255, 400, dtype=np.uint8))), 'exif_huge.jpg': with_app1(b'Exif\0\0' + b'\0'*65000), 'exif_cut.jpg': with_app1(exif(6)[:12]), 'exif_odd.jpg': with_app1(exif(6, b'\xff'*50)),
    'comment.jpg': jpeg[:2] + b'\xff\xfe' + struct.pack('>H', 1002) + b'x'*1000 + jpeg[2:], 'trailing.jpg': jpeg + b'\0'*500, 'tiny.png': encoded(photo(1, 1), 'PNG'), 'thin.jpg': encoded(photo(200, 1)), 'wide.jpg': encoded(photo(900, 4)),
}
broken = { # these cannot be used
    '0_the_first.jpg': b'', 'empty.jpg': b'', 'zeros.jpg': b'\0'*2000, 'noise.jpg': bytes(rng.randint(0, 255, 3000, dtype=np.uint8)), 'html.jpg': b'<!DOCTYPE html><html>404</html>', 'text.png': b'not an image', 'cut.jpg': jpeg[:len(jpeg)//2], 'cut_head.jpg': jpeg[:30], 'cut_end.jpg': jpeg[:-200],
    'cut.png': png[:len(png)//2], 'cut.gif': encoded(photo().convert('P'), 'GIF')[:60], 'cut.webp': encoded(photo(), 'WEBP')[:80], 'cut.bmp': encoded(photo(), 'BMP')[:300], 'cut.tif': encoded(photo(), 'TIFF')[:200], 'soi.jpg': b'\xff\xd8', 'markers.jpg': b'\xff\xd8\xff\xd9', 'headless.jpg': jpeg[20:],
    'bomb.png': png_size(60000, 60000), 'bomb.jpg': jpeg_size(65000, 65000), 'nosize.jpg': jpeg_size(0, 0), 'zip.jpg': b'PK\x03\x04' + b'\0'*500, 'pdf.jpg': b'%PDF-1.4\n' + b'\0'*500, 'crc.png': png[:60] + b'\xff'*20 + png[80:],
}

@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    d = tmp_path_factory.mktemp('corpus')
    for c in ('cat', 'dog'):
        for split in ('train', 'val'): (d/split/c).mkdir(parents=True)
        for i in range(60): (d/'train'/c/f'fill{i}.jpg').write_bytes(encoded(photo(40+i, 40)))
        for i in range(4): (d/'val'/c/f'fill{i}.jpg').write_bytes(jpeg)
    for n,b in (good | broken).items(): (d/'train'/'cat'/n).write_bytes(b)
    (d/'train'/'cat'/'folder.jpg').mkdir() # opening it is an error, too
    os.symlink('nowhere', d/'train'/'dog'/'link.jpg')
    (d/'val'/'dog'/'broken.jpg').write_bytes(b'')
    return d

bad_names = sorted([*broken, 'folder.jpg', 'link.jpg', 'broken.jpg'])

def test_there_are_enough(): assert len(good)+len(broken) >= 60 and len(bad_names) >= 25

@pytest.mark.parametrize('name', good)
def test_good_ones_are_rgb(name, tmp_path):
    (tmp_path/name).write_bytes(good[name])
    im = LazyImage.create(tmp_path/name)
    a = im.decode()
    assert a.dtype == np.uint8 and a.ndim == 3 and a.shape[2] == 3 and im.size == a.shape[1::-1]
    if name.startswith('turn'):
        o = int(name[4]); want = np.asarray(photo())
        if o >= 5: want = want.swapaxes(0, 1)
        if o in (3, 4, 7, 8): want = want[::-1]
        if o in (2, 3, 6, 7): want = want[:,::-1]
        assert a.shape == want.shape and abs(a.astype(int)-want).mean() < 8
    elif name.split('.')[0] in ('plain', 'png_named', 'jpeg_named', 'cmyk', 'alpha', 'web', 'map', 'scan', 'exif_junk', 'trailing', 'animated'):
        assert abs(a.astype(int)-np.asarray(photo())).mean() < (25 if 'palette' in name or 'animated' in name else 8), name

def check(*words, **env):
    return subprocess.run(['imagenet_check', *map(str, words)], capture_output=True, text=True, env=os.environ | env)

def test_check(corpus, tmp_path):
    env = dict(XDG_CACHE_HOME=str(tmp_path))
    r = check(corpus, '--decode', '--json', **env)
    assert r.returncode == 1, r.stderr
    found = json.loads(r.stdout)
    assert sorted(Path(p).name for p in found['bad_files']) == bad_names
    assert all(why and '\n' not in why for why in found['bad_files'].values()) and found['odd']['CMYK'] >= 2 and found['odd']['PNG named .JPEG'] == 1
    assert (found['classes'], found['train_items']) == (2, 120+len(good)+len(broken)+2)
    r = check(corpus, '--decode', **env)
    assert r.returncode == 1 and f'{len(bad_names)} files cannot be used' in r.stdout
    r = check(corpus/'train'/'dog')
    assert r.returncode == 2 and 'images lie directly in it' in r.stderr and len(r.stderr.splitlines()) == 1

def test_training_goes_on(corpus, tmp_path, monkeypatch, capsys):
    from imagenet_nb.cli import train_command
    monkeypatch.chdir(tmp_path)
    words = ['--dataset', 'imagenet', '--data-dir', str(corpus), '--model', 'timm/resnet10t', '--size', '32', '--batch-size', '16', '--epochs', '1']
    train_command([*words, '--max-bad-files', '0.5', '--checkpoint-dir', 'run'])
    listed = dict(l.split('\t') for l in Path('run/bad_files.txt').read_text().splitlines())
    assert sorted(Path(p).name for p in listed) == bad_names and f'{len(bad_names)} files could not be read and were replaced' in capsys.readouterr().out
    assert listed[str(corpus/'val'/'dog'/'broken.jpg')] == 'the file is empty'
    with pytest.raises(SystemExit) as e: train_command([*words, '--checkpoint-dir', 'strict'])
    err = capsys.readouterr().err
    assert e.value.code == 2 and 'files cannot be read, and --max-bad-files 0.001 allows 1' in err and Path('strict/bad_files.txt').exists()
    (tmp_path/'two').mkdir()
    Path('two/config.json').write_text(json.dumps(dict(data_loader=dict(num_workers=2))))
    train_command([*words, '--max-bad-files', '0.5', '--checkpoint-dir', 'run2', '--config', 'two/config.json'])
    assert Path('run2/bad_files.txt').read_text() == Path('run/bad_files.txt').read_text()
    h = [json.loads(Path(f'{r}/metrics.json').read_text()) for r in ('run', 'run2')]
    assert h[0]['train_losses'] == h[1]['train_losses'] and h[0]['test_losses'] == h[1]['test_losses']

def test_an_error_elsewhere_costs_no_list(corpus, tmp_path, monkeypatch):
    "A fit that ends by somebody's exception still says which files were bad, and the loaders are as before"
    from fastai.callback.core import Callback
    from imagenet_nb.config import Config
    from imagenet_nb.run.learner import imagenet_learner
    class Oops(Callback):
        def after_batch(self):
            if self.iter == 7: raise RuntimeError('oops')
    monkeypatch.chdir(tmp_path)
    learn = imagenet_learner(Config(dataset='imagenet', data_dir=str(corpus), model='timm/resnet10t', size=32, batch_size=16, epochs=1, max_bad_files=.5))
    with pytest.raises(RuntimeError, match='oops'): learn.fit_config('run', cbs=[Oops()])
    listed = dict(l.split('\t') for l in Path('run/bad_files.txt').read_text().splitlines())
    assert 5 < len(listed) < len(bad_names) and {Path(p).name for p in listed} < set(bad_names)
    assert all(dl.bad_log is None for dl in learn.dls.loaders)
