"""Export and clean must leave no difference: what is committed is what the notebooks say.

    python tools/check.py
"""
import configparser, filecmp, shutil, subprocess, sys, tempfile
from pathlib import Path

root = Path(__file__).resolve().parent.parent
bin = Path(sys.executable).parent

def requirements():
    "requirements.txt is made from settings.ini"
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini')
    return '# Made from settings.ini by tools/check.py\n' + '\n'.join(ini['DEFAULT']['requirements'].split()) + '\n'

def tree(folder): return {p.relative_to(folder) for p in folder.rglob('*') if p.suffix in ('.ipynb', '.py') and '.ipynb_checkpoints' not in str(p)}

def main():
    with tempfile.TemporaryDirectory() as tmp:
        for d in ('nbs', 'imagenet_nb'): shutil.copytree(root/d, Path(tmp)/d, symlinks=True)
        before = (root/'requirements.txt').read_text() if (root/'requirements.txt').exists() else ''
        for cmd in ('nbdev_export', 'nbdev_clean'): subprocess.run([bin/cmd], cwd=root, check=True)
        (root/'requirements.txt').write_text(requirements())
        changed = [] if before == requirements() else ['requirements.txt']
        for d in ('nbs', 'imagenet_nb'):
            old,new = tree(Path(tmp)/d),tree(root/d)
            changed += [f'{d}/{p}' for p in old ^ new]
            changed += [f'{d}/{p}' for p in old & new if not filecmp.cmp(Path(tmp)/d/p, root/d/p, shallow=False)]
    if changed: sys.exit('export and clean changed: ' + ', '.join(sorted(changed)) + '\nCommit what they made.')
    print('export and clean leave no difference')

if __name__ == '__main__': main()
