"Notebooks that show what they say: kept outputs, small cells, and never a wall of silent tests."
import json
import pytest
from conftest import root

numbered = sorted(p.name for p in (root/'nbs').glob('[0-9]*.ipynb'))

def cells(name):
    "(source, kept outputs) of the code cells that a reader sees"
    for c in json.loads((root/'nbs'/name).read_text(encoding='utf-8'))['cells']:
        source = ''.join(c['source'])
        head = [l for l in source.splitlines()[:4] if l.startswith('#|')]
        if c['cell_type'] == 'code' and source.strip() and not any('hide' in l or 'default_exp' in l for l in head):
            yield source,c['outputs']

def exported(source): return '#| export' in source.splitlines()[0]

@pytest.mark.parametrize('name', numbered)
def test_a_notebook_shows(name):
    "At least two in five of its code cells keep an output"
    shown = [bool(o) for _,o in cells(name)]
    assert sum(shown) >= .4*len(shown), f'{sum(shown)} of {len(shown)}'

@pytest.mark.parametrize('name', numbered)
def test_no_wall(name):
    "No long exported cell, no long line in one, no stack of silent tests"
    found = list(cells(name))
    lines = [[l for l in s.splitlines() if l.strip() and not l.startswith('#|')] for s,_ in found if exported(s)]
    assert not (large := [o[0] for o in lines if len(o) > 40]), large
    assert not (long := [l for o in lines for l in o if len(l) > 120]), long
    silent = [not o and not exported(s) for s,o in found]
    assert not any(a and b for a,b in zip(silent, silent[1:])), [s for (s,_),q in zip(found, silent) if q]

@pytest.mark.parametrize('name', numbered)
def test_no_mistake_is_kept(name):
    "No output is a traceback, and none speaks of the machine it was made on"
    for _,outputs in cells(name):
        said = json.dumps(outputs)
        assert not any(o['output_type'] == 'error' for o in outputs) and '/tmp/' not in said, said[:500]
