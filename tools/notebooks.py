"""Run every notebook from top to bottom. nbdev_test alone takes it for a success when it finds none.

    python tools/notebooks.py --n_workers 2   # the options are nbdev_test's
"""
import argparse, os, subprocess, sys
from pathlib import Path
from nbdev.doclinks import nbglob

root = Path(__file__).resolve().parent.parent

def found():
    "The notebooks that nbdev works on, which must be all that there are; else one line and exit code 2"
    os.chdir(root) # nbdev looks for settings.ini from here
    files = {p.relative_to(root/'nbs') for p in (root/'nbs').rglob('*.ipynb')}
    want = {p for p in files if not any(o[0] in '._' for o in p.parts)} # what nbdev leaves out on purpose
    have = {Path(p).resolve().relative_to(root/'nbs') for p in nbglob()}
    if want and want <= have: return
    print(f'error: nbdev finds {len(want & have)} of the {len(want)} notebooks in nbs: nothing was done', file=sys.stderr)
    sys.exit(2)

def main():
    found()
    p = argparse.ArgumentParser(add_help=False, allow_abbrev=False); p.add_argument('--path')
    path = p.parse_known_args()[0].path
    if not (todo := nbglob(path)): print(f'error: {path} is no notebook and no folder with one: nothing was tested', file=sys.stderr); sys.exit(2)
    print(f'notebooks to run: {len(todo)}', flush=True)
    sys.exit(subprocess.run([Path(sys.executable).parent/'nbdev_test', *sys.argv[1:]]).returncode)

if __name__ == '__main__': main()
