"Reports as a person asks for them."
import json, subprocess
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
