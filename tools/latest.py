"""The quickstart on the newest fastai and fastcore, which the pinned development tools keep out of .venv.

    python tools/latest.py
A second environment, .venv-latest, sees the packages of this one (torch is large) and puts the newest fastai in front of them.
"""
import json, shutil, site, subprocess, sys, tempfile, venv
from importlib.metadata import version
from pathlib import Path

root = Path(__file__).resolve().parent.parent
env = root/'.venv-latest'
py = env/'bin'/'python'

def main():
    if not py.exists(): venv.create(env, with_pip=True)
    own = Path(subprocess.run([py, '-c', 'import site; print(site.getsitepackages()[0])'], capture_output=True, text=True, check=True).stdout.strip())
    (own/'borrowed.pth').write_text(site.getsitepackages()[0] + '\n')
    shutil.rmtree(root/'build', ignore_errors=True) # else a module that is gone would be packaged again
    subprocess.run([py, '-m', 'pip', 'install', '-q', '--upgrade', 'fastai', 'fastcore', 'fasttransform', 'fastprogress', 'plum-dispatch', root], check=True)
    code = 'import fastai, fastcore, imagenet_nb; print(fastai.__version__, fastcore.__version__, imagenet_nb.__file__)'
    with tempfile.TemporaryDirectory() as tmp:
        fa,fc,where = subprocess.run([py, '-c', code], cwd=tmp, capture_output=True, text=True, check=True).stdout.split()
        if '.venv-latest' not in where: sys.exit(f'the second environment uses {where}')
        if fa == version('fastai') and fc == version('fastcore'): sys.exit(f'the second environment has the same fastai {fa} as the first')
        print(f'quickstart on fastai {fa}, fastcore {fc}', flush=True)
        subprocess.run([env/'bin'/'imagenet_train', '--preset', 'quickstart', '--checkpoint-dir', 'run'], cwd=tmp, check=True)
        best = json.loads((Path(tmp)/'run'/'metrics.json').read_text())['best_test_accuracy']
    if best < 97: sys.exit(f'{best:.2f} % on the digits is less than 97 %')

if __name__ == '__main__': main()
