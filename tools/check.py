"""Export and clean must leave no difference, and neither must README.md: what is committed is what the notebooks say.

    python tools/check.py
"""
import configparser, filecmp, shutil, subprocess, sys, tempfile
from pathlib import Path
from notebooks import found

root = Path(__file__).resolve().parent.parent
bin = Path(sys.executable).parent

def requirements():
    "requirements.txt is made from settings.ini"
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini')
    return '# Made from settings.ini by tools/check.py\n' + '\n'.join(ini['DEFAULT']['requirements'].split()) + '\n'

def text(name): return (root/name).read_text(encoding='utf-8') if (root/name).exists() else ''
def tree(folder): return {p.relative_to(folder) for p in folder.rglob('*') if p.suffix in ('.ipynb', '.py') and '.ipynb_checkpoints' not in str(p)}

def main():
    found()
    with tempfile.TemporaryDirectory() as tmp:
        for d in ('nbs', 'imagenet_nb'): shutil.copytree(root/d, Path(tmp)/d, symlinks=True)
        before = {n: text(n) for n in ('requirements.txt', 'README.md')}
        for cmd in ([bin/'nbdev_export'], [bin/'nbdev_clean'], [sys.executable, root/'tools'/'docs.py', 'readme']): subprocess.run(cmd, cwd=root, check=True)
        (root/'requirements.txt').write_text(requirements(), encoding='utf-8')
        changed = [n for n,o in before.items() if o != text(n)]
        for d in ('nbs', 'imagenet_nb'):
            old,new = tree(Path(tmp)/d),tree(root/d)
            changed += [f'{d}/{p}' for p in old ^ new]
            changed += [f'{d}/{p}' for p in old & new if not filecmp.cmp(Path(tmp)/d/p, root/d/p, shallow=False)]
    if changed: sys.exit('not what the notebooks say: ' + ', '.join(sorted(changed)) + '\nThey are right now: commit what was made.')
    print('export, clean and README.md leave no difference')

if __name__ == '__main__': main()
