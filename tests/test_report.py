"Reports as a person asks for them."
import json, random, subprocess, warnings
from pathlib import Path

def report(*words, cwd): return subprocess.run(['imagenet_report', *map(str, words)], cwd=cwd, capture_output=True, text=True)

def test_the_record(tmp_path):
    r = report('--reference', '--json', cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    d = json.loads(r.stdout)
    assert {'T_0', 'base_lr', 'eta_min', 'eta_min_interval'} <= d['schedule'].keys() and d['schedule']['T_0'] == 30
    lo,hi = d['schedule']['eta_min_interval']; assert lo < 1e-5 < hi
    assert len(d['claims']) > 45 and all({'id', 'statement', 'section', 'stated', 'measured', 'verdict', 'why'} <= c.keys() for c in d['claims'])
    assert {c['verdict'] for c in d['claims']} == {'holds', 'contradicted', 'not testable from this record'} and len({c['id'] for c in d['claims']}) == len(d['claims'])
    assert not list(tmp_path.iterdir())
    r = report('--reference', cwd=tmp_path)
    page = (tmp_path/'reference_7384.html').read_text()
    assert r.returncode == 0 and all(f'<td>{c["id"]}</td>' in page for c in d['claims'])

def test_a_run(call, tmp_path):
    r = call('--preset', 'quickstart', '--model', 'wideresnet10-1', '--size', 16, '--epochs', 2, '--reference', 7384, '--checkpoint-dir', 'run')
    assert r.returncode == 0 and 'the record had 9.70 % after 1 epoch:' in r.stdout and 'the record had 22.41 % after 2 epochs:' in r.stdout, r.stderr
    r = report('run', cwd=tmp_path)
    page = (tmp_path/'run'/'report.html').read_text()
    assert (r.returncode, r.stderr) == (0, '') and page.count('data:image/png') == 2 and 'wideresnet10-1' in page

def test_mistakes(tmp_path):
    for words,said in (((), 'either the folder of a run, or --reference'), (('none',), 'none/metrics.json'), (('a', '--reference'), 'either'), (('a', '--json'), '--json goes with --reference'), (('--reference', '--out', 'no/x.html'), '--out no/x.html: cannot be written')):
        r = report(*words, cwd=tmp_path)
        assert r.returncode == 2 and (said in r.stderr or said.replace('none/metrics.json', 'none: no history') in r.stderr) and len(r.stderr.splitlines()) == 1, r.stderr

def good_run():
    "The files of a run of six epochs, as texts"
    columns = dict(epochs=range(1, 7), train_losses=[2, 1.8, 1.6, 1.7, 1.4, 1.2], test_losses=[1.8, 1.6, 1.5, 1.6, 1.3, 1.2], train_accuracies=[20, 30, 40, 35, 45, 50],
                   test_accuracies=[30, 40, 55, 35, 60, 62], learning_rates=[.1, .05, .01]*2, seconds=[9]*6)
    return {'metrics.json': {k: list(map(float, v)) if k != 'epochs' else list(v) for k,v in columns.items()} | dict(best_test_accuracy=62., best_epoch=6, stopped=None),
            'config.json': dict(run=dict(model='resnet50', dataset='digits', scheduler='cosine', seed=1), scheduler=dict(cosine=dict(T_0=3, T_mult=1, warmup_epochs=0))),
            'README.md': '# A run\n\n| a | b |\n|---|---|\n| c | d |\n'}

odd = (None, 0, -1, 17, True, '', '$a$', '\ud800', [], {}, [[[1]]], {'a': {}}, 2.5, 1e308, 5e-324, 1e20, 10**400, float('nan'), float('inf'), 1e90)

def damage(o, rng):
    "Change one place of a JSON value, on any level"
    at = o
    while isinstance(at[k := rng.choice(list(at) if isinstance(at, dict) else range(len(at)))], (dict, list)) and at[k] and rng.random() < .6: at = at[k]
    v,how = at[k],rng.randrange(5)
    if how == 0: del at[k]
    elif how == 1 and isinstance(v, list): at[k] = [rng.choice((None, rng.choice(odd)))]*len(v)
    elif how == 2 and isinstance(v, list): rng.shuffle(v)
    elif how == 3 and isinstance(at, dict): at.update({n: c[:3] for n,c in at.items() if isinstance(c, list)})
    else: at[k] = rng.choice(odd)

def test_damaged_files(tmp_path, monkeypatch, capsys):
    "Whatever has befallen a run's files: a page without a warning, or one line and exit code 2"
    from imagenet_nb.cli import report_command
    import imagenet_nb.report.report, matplotlib # here, so that warnings at their import are none of ours
    matplotlib.use('Agg'); monkeypatch.chdir(tmp_path)
    codes = []
    for seed in range(20):
        rng,files = random.Random(seed),good_run()
        name = rng.choice(('metrics.json', 'metrics.json', 'config.json', 'README.md'))
        if name != 'README.md': damage(files[name], rng)
        folder = tmp_path/f'run{seed}$x$'; folder.mkdir()
        for n,o in files.items(): (folder/n).write_text(o if isinstance(o, str) else json.dumps(o))
        b = (folder/name).read_bytes()
        if name == 'README.md' or seed%8 == 0: (folder/name).write_bytes(b[:rng.randrange(len(b))] + rng.randbytes(rng.randrange(9)))
        code = 0
        with warnings.catch_warnings(action='error'):
            try: report_command([folder.name])
            except SystemExit as e: code = e.code
        out,err = capsys.readouterr()
        assert (code, err) == (0, '') and (folder/'report.html').exists() or code == 2 and len(err.splitlines()) == 1 and err.startswith('error: '), (seed, code, err)
        codes.append(code)
    assert 5 < codes.count(0) < 17
