"""The wheel, as PyPI will have it: what is in it, and whether its commands run far from the sources, on the newest fastai and fastcore.

    python tools/wheel.py                 build it, and put it into .venv-wheel
    python tools/wheel.py dist/NAME.whl   this one: what is tested is what is published
.venv-wheel sees the packages of this Python where it has torch (which is large), with the newest fastai in front of them; else it gets everything from PyPI.
"""
import configparser, importlib.util, json, shutil, site, subprocess, sys, tempfile, venv, zipfile
from importlib.metadata import version
from pathlib import Path

root = Path(__file__).resolve().parent.parent
env = root/'.venv-wheel'
py = env/'bin'/'python'
newest = ['fastai', 'fastcore', 'fasttransform', 'fastprogress', 'plum-dispatch'] # the pinned development tools keep these out of .venv
borrow = importlib.util.find_spec('torch') is not None

def run(*cmd, **kw): return subprocess.run(cmd, check=True, text=True, **kw)
def said(*cmd, **kw): return run(*cmd, stdout=subprocess.PIPE, **kw).stdout.strip()

def settings():
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']

def build(folder):
    shutil.rmtree(root/'build', ignore_errors=True) # else a module that is gone would be packaged again
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', folder, root)
    return next(folder.glob('*.whl'))

def look_inside(wheel):
    "The package byte for byte, its metadata, and nothing else"
    name,number = settings()['lib_name'],settings()['version']
    with zipfile.ZipFile(wheel) as z: files = {n: z.read(n) for n in z.namelist()}
    inside = {n: b for n,b in files.items() if not n.startswith(f'{name}-{number}.dist-info/')}
    want = {p.relative_to(root).as_posix(): p.read_bytes() for p in (root/name).rglob('*') if p.suffix in ('.py', '.json', '.csv')}
    odd = sorted(n for n in inside.keys() | want.keys() if inside.get(n) != want.get(n))
    if odd: sys.exit(f'{wheel.name}: missing, changed or too much: {", ".join(odd)}')
    scripts = files[f'{name}-{number}.dist-info/entry_points.txt'].decode()
    for line in settings()['console_scripts'].split():
        if line.replace('=', ' = ') not in scripts: sys.exit(f'{wheel.name}: no console script {line}')

def install(wheel):
    if not py.exists(): venv.create(env, with_pip=True)
    own = Path(said(py, '-c', 'import site; print(site.getsitepackages()[0])'))
    if borrow: (own/'borrowed.pth').write_text(site.getsitepackages()[0] + '\n')
    run(py, '-m', 'pip', 'uninstall', '-q', '-y', settings()['lib_name'], stderr=subprocess.DEVNULL) # the same version may be there already
    run(py, '-m', 'pip', 'install', '-q', '--upgrade', *newest, wheel)

def use(where):
    "Its three commands in the folder `where`"
    fa,fc,own,at = said(py, '-c', 'import fastai, fastcore, imagenet_nb as o; print(fastai.__version__, fastcore.__version__, o.__version__, o.__file__)', cwd=where).split()
    if not Path(at).is_relative_to(env) or own != settings()['version']: sys.exit(f'{env.name} uses version {own} in {at}')
    if borrow and (fa,fc) == (version('fastai'),version('fastcore')): sys.exit(f'{env.name} has the same fastai {fa} as the first environment')
    print(f'the wheel of {own} on fastai {fa}, fastcore {fc}', flush=True)
    command = lambda name, *words: said(env/'bin'/f'imagenet_{name}', *words, cwd=where)
    run(env/'bin'/'imagenet_train', '--preset', 'quickstart', '--epochs', '4', '--checkpoint-dir', 'run', cwd=where)
    best = json.loads((where/'run'/'metrics.json').read_text())['best_test_accuracy']
    if best < 80: sys.exit(f'{best:.2f} % on the digits after 4 epochs is less than 80 %')
    command('report', 'run')
    claims = json.loads(command('report', '--reference', '--json'))['claims']
    run(py, '-c', 'import numpy as np\nfrom pathlib import Path\nfrom PIL import Image\nfor p in ("train/cat", "train/dog", "val/cat", "val/dog"):\n'
                  '    Path("data", p).mkdir(parents=True)\n    for i in range(2): Image.fromarray(np.random.randint(0, 255, (40, 40, 3), dtype=np.uint8)).save(f"data/{p}/{i}.jpg")', cwd=where)
    found = json.loads(command('check', 'data', '--decode', '--json'))
    if not claims or not (where/'run'/'report.html').exists() or found['classes'] != 2 or found['bad_files']: sys.exit('a command has not done its work')

def main():
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        wheel = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else build(tmp)
        look_inside(wheel); install(wheel)
        (tmp/'far').mkdir(); use(tmp/'far')
    print(f'{wheel.name} is good')

if __name__ == '__main__': main()
