"The renderer of the site: types, defaults and comments that hold the very signs with which a table is made."
import sys
from dataclasses import dataclass
import pytest
from conftest import root

sys.path.insert(0, str(root))
from tools.showdoc import TableRenderer, _nothing, default_text, text_cell, type_cell
from imagenet_nb.callback.schedule import one_cycle

def a_function(): pass

@pytest.mark.parametrize('o,text', [(str, '`str`'), (str|None, '`str` or `None`'), ('Path | None', '`Path` or `None`'), (dict, '`dict`'), (_nothing, '')])
def test_types(o, text): assert type_cell(o) == text

@pytest.mark.parametrize('o,text', [(.1, '0.1'), ('cosine', "'cosine'"), (len, '…'), (a_function, 'a_function'), (lambda: 0, '…'), (TableRenderer, 'TableRenderer')])
def test_defaults(o, text): assert default_text(o) == text

def test_comments(): assert text_cell('a|b, 2*n < 3,\nsee `x*y`') == r'a\|b, 2*n \< 3, see `x*y`'

def odd(a, # a `<b>`|c
        n:int|None=None, *, # 2*3
        f=lambda x: x, # a function
        **kw) -> str: # a
    "Stars * and <tags>"

def test_a_function():
    md = TableRenderer(odd)._repr_markdown_()
    assert md.split('```')[1] == 'python\ndef odd(a, n=None, *, f=…, **kw) -> str\n'
    for part in (r'*Stars \* and \<tags>*', r'| `n` | `int` or `None` | `None` | 2*3 |', r'| `a` |  |  | a `<b>`\|c |'): assert part in md
    assert max(map(len, TableRenderer(one_cycle).signature().splitlines())) <= 72

@dataclass
class Plain:
    a: int=1
class Sub(dict): "A dict"
class Made:
    def __init__(self,
        size: int, # in pixels
        text: str='a b', # two words
    ): self.size = size
    def half(self): return self.size//2
    @classmethod
    def default(cls): return cls(4)
    @property
    def area(self): return self.size**2
def quiet(x): pass

def test_classes():
    in_notebook = type('Suggestion', (), {}); in_notebook.__module__ = '__main__' # as a notebook defines it; its comments stand in the module's file
    signatures = [TableRenderer(o).signature() for o in (Plain, dataclass(in_notebook), Sub, Made)]
    assert signatures == ['class Plain(**options)', 'class Suggestion(lr, why)', 'class Sub(dict) # no constructor of its own', "class Made(size, text='a b')"]
    assert [TableRenderer(o).table() for o in (Plain, Sub, quiet)] == ['']*3
    assert TableRenderer(Made).anchors() == ''.join(f'<span id="made.{o}"></span>' for o in ('half', 'default', 'area'))
    assert TableRenderer(Made).table().splitlines()[2:] == ['| `size` | `int` |  | in pixels |', "| `text` | `str` | `'a b'` | two words |"]
