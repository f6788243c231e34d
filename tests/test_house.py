"The tools of the repository: they work in a clone below a hidden folder, and none is green that has done nothing."
import json, os, re, shutil, subprocess, sys, tarfile
import pytest, yaml
from conftest import root, until

@pytest.fixture
def clone(tmp_path):
    "A copy of what the tools need, below a hidden folder; calls `python tools/NAME.py …` in it"
    d = tmp_path/'.local'/'clone'; d.mkdir(parents=True)
    for n in ('nbs', 'imagenet_nb', 'tools'): shutil.copytree(root/n, d/n, symlinks=True, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    for n in ('settings.ini', 'README.md', 'requirements.txt', '_quarto.yml', 'pyproject.toml'): shutil.copy(root/n, d)
    def call(name, *words): return subprocess.run([sys.executable, f'tools/{name}.py', *words], cwd=d, capture_output=True, text=True, timeout=300)
    call.at = d
    return call

def test_check_makes_what_is_missing(clone):
    "A module that was not exported and a README.md that is another one: both are made, and said"
    d = clone.at
    (d/'imagenet_nb'/'data'/'image.py').unlink()
    with open(d/'README.md', 'a') as f: f.write('more')
    r = clone('check')
    assert r.returncode == 1 and 'not what the notebooks say: README.md, imagenet_nb/data/image.py' in r.stderr and 'commit what was made' in r.stderr, r.stdout+r.stderr
    for n in ('README.md', 'imagenet_nb/data/image.py'): assert (d/n).read_bytes() == (root/n).read_bytes(), n
    r = clone('check')
    assert r.returncode == 0, r.stdout+r.stderr
    (d/'README.md').unlink()
    assert clone('docs', 'readme').returncode == 0 and (d/'README.md').read_bytes() == (root/'README.md').read_bytes()

def test_notebooks_are_found_and_run(clone):
    r = clone('notebooks', '--path', 'nbs/35_callback.history.ipynb', '--do_print')
    assert r.returncode == 0 and 'notebooks to run: 1\n' in r.stdout and '- Completed' in r.stdout, r.stdout+r.stderr
    r = clone('notebooks', '--path', 'nbs/no.ipynb')
    assert r.returncode == 2 and r.stderr == 'error: nbs/no.ipynb is no notebook and no folder with one: nothing was tested\n'
    (clone.at/'nbs'/'index.ipynb').rename(clone.at/'index.ipynb'); shutil.rmtree(clone.at/'nbs'); (clone.at/'nbs').mkdir()
    for tool in ('notebooks', 'check'):
        r = clone(tool)
        assert r.returncode == 2 and r.stderr == 'error: nbdev finds 0 of the 0 notebooks in nbs: nothing was done\n', r.stderr

def test_the_site_is_built(clone):
    "Of three pages, because all take a minute"
    d,keep = clone.at,('index.ipynb', '31_callback.schedule.ipynb', 'tutorials/first_run.ipynb')
    for p in (d/'nbs').rglob('*.ipynb'):
        if p.relative_to(d/'nbs').as_posix() not in keep: p.unlink()
    cfg = yaml.safe_load((d/'_quarto.yml').read_text())
    cfg['website']['sidebar']['contents'] = list(keep)
    (d/'_quarto.yml').write_text(yaml.safe_dump(cfg))
    r = clone('docs')
    assert r.returncode == 0, (r.stdout+r.stderr)[-3000:]
    assert {p.relative_to(d/'_docs').as_posix() for p in (d/'_docs').rglob('*.html')} >= {'index.html', 'callback.schedule.html', 'tutorials/first_run.html'}
    assert 'fit_sgdr' in (d/'_docs'/'callback.schedule.html').read_text(encoding='utf-8') and (d/'README.md').read_bytes() == (root/'README.md').read_bytes()

def test_workflows():
    "They can be read, what they call is there, and nothing is published or deployed before its tests"
    flows = {p.stem: p.read_text() for p in (root/'.github'/'workflows').glob('*.yml')}
    jobs = {n: yaml.safe_load(o)['jobs'] for n,o in flows.items()}
    for name in re.findall(r'(?:tools|tests)/\w+\.py', ''.join(flows.values())): assert (root/name).exists(), name
    for target in re.findall(r'make (\w+)', ''.join(flows.values())): assert re.search(rf'^{target}:', (root/'Makefile').read_text(), flags=re.M), target
    assert jobs['release']['pypi']['needs'] == ['test', 'wheel'] and jobs['docs']['deploy']['needs'] == 'build'
    assert not any('checkout' in o.get('uses', '') or 'run' in o for o in jobs['release']['pypi']['steps']) # it builds nothing of its own

def test_until_says_what_it_waited_for():
    assert until(iter([0, 0, 5]).__next__, 'a number') == 5
    with pytest.raises(AssertionError, match='waited 0 s in vain for a sign'): until(lambda: None, 'a sign', timeout=0)

def test_the_gpu_script_runs(tmp_path, photos):
    "Packing, and one of its parts on a CPU; all of them are `tools/gpu.py run … --small`, which takes minutes"
    some = tmp_path/'photos'
    for split,n in (('train', 130), ('val', 5)):
        for c in sorted(p.name for p in (photos/split).iterdir())[:2]:
            (some/split/c).mkdir(parents=True)
            for p in sorted((photos/split/c).iterdir())[:n]: (some/split/c/p.name).symlink_to(p)
    script = lambda *words: subprocess.run([sys.executable, 'tools/gpu.py', *map(str, words)], cwd=root, capture_output=True, text=True, timeout=300, env=os.environ | dict(PYTHONPATH=str(root)))
    r = script('pack', some, tmp_path/'photos.tgz')
    assert r.returncode == 0 and '270 photographs' in r.stdout, r.stderr
    with tarfile.open(tmp_path/'photos.tgz') as t: t.extractall(tmp_path/'unpacked', filter='data')
    r = script('loaded', tmp_path/'unpacked', 32, 260, 0)
    assert r.returncode == 0, r.stderr
    speed = json.loads(r.stdout.strip().splitlines()[-1])
    assert list(speed) == ['0'], speed
