"""How a function looks on the site: its signature, one sentence, and a table of its parameters.

nbdev prints the comments beside the parameters (docments) inside the signature, where they are clipped at the edge of the column and can hold no link.
`settings.ini` names this renderer instead. Only who builds the site needs it, so it is no part of the package; it is found from the root of the repository
(`make docs`, or `PYTHONPATH=. nbdev_docs`).
"""

import inspect, re
from dataclasses import is_dataclass
from importlib import import_module
from textwrap import fill
from fastcore.docments import DocmentText
from nbdev.doclinks import NbdevLookup
from nbdev.showdoc import BasicMarkdownRenderer

_nothing = inspect.Parameter.empty

def type_cell(
    o, # an annotation, or `inspect.Parameter.empty`
) -> str: # Markdown; alternatives are joined by "or"
    "A type for a table's cell"
    if o in (_nothing, type(None), None): return ''
    name = o if isinstance(o, str) else o.__name__ if isinstance(o, type) else str(o).replace('typing.', '')
    return ' or '.join(f'`{p.strip().split(".")[-1]}`' for p in name.split('|'))

def default_text(
    o, # a default value
) -> str: # as short as it can be without a lie
    "A default as one would type it"
    if inspect.isfunction(o) or inspect.isclass(o): return '…' if '<' in o.__name__ else o.__name__
    if len(o := repr(o)) <= 40 and '<' not in o: return o
    return o.split('(')[0] + '(…)' if re.match(r'[A-Za-z]\w*\(', o) else '…'

def text_cell(
    s: str, # a docment; may have several lines
) -> str: # Markdown
    "A docment for a table's cell"
    parts = re.split(r'(`[^`]*`)', ' '.join((s or '').split()).replace('|', r'\|'))
    return ''.join(o if o.startswith('`') else o.replace('<', r'\<') for o in parts)

class TableRenderer(BasicMarkdownRenderer):
    "A symbol as heading, short signature, docstring, and a table of its parameters"
    def __init__(self, sym, name=None, title_level=3, **kw):
        if is_dataclass(sym) and sym.__module__ == '__main__' and isinstance(found := NbdevLookup()[sym.__name__], tuple):
            self.home = getattr(import_module(found[1].removesuffix('.py').replace('/', '.')), sym.__name__)
        super().__init__(sym, name, title_level, **kw)
        if hasattr(self, 'home'): self.dm = DocmentText(self.home)

    @property
    def rows(self): return {k: v for k,v in self.dm.dm.items() if k != 'return'}

    def signature(self):
        "The signature in lines of at most 72 characters"
        sym,rows = self.sym,self.rows
        documented,cls = any(v.docment for v in rows.values()),inspect.isclass(sym)
        if cls and is_dataclass(sym) and not documented: return f'class {sym.__name__}(**options)'
        if cls and not is_dataclass(sym) and '__init__' not in vars(sym):
            return f'class {sym.__name__}({", ".join(o.__name__ for o in sym.__bases__)}) # no constructor of its own'
        params,star = [],False
        for k,v in rows.items():
            star |= v.kind == inspect.Parameter.VAR_POSITIONAL
            if v.kind == inspect.Parameter.KEYWORD_ONLY and not star: params.append('*'); star = True
            pre = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}.get(v.kind, '')
            params.append(pre + k + ('' if v.default is _nothing else f'={default_text(v.default)}'))
        head = f'{"class" if cls else "def"} {sym.__name__}('
        end = ')' + ('' if cls or not (t := self._type('return')) else f' -> {t}')
        if len(one := f'{head}{", ".join(params)}{end}') <= 72: return one
        inside = ', '.join(o.replace(' ', '\0') for o in params) # a default may hold a space, and is not broken there
        return f'{head}\n{fill(inside, 72, initial_indent="    ", subsequent_indent="    ")}\n{end}'.replace('\0', ' ')

    def _type(self, k): return type_cell(self.dm.dm.get(k, {}).get('anno', _nothing)).replace('`', '')

    def table(self):
        "The parameters and what comes back as a Markdown table; '' where nothing is said of them"
        dm,rows = self.dm.dm,self.rows
        if not any(v.get('docment') for v in dm.values()): return ''
        def row(name, v):
            default = '' if v.default is _nothing else f'`{default_text(v.default)}`'
            return name, type_cell(v.anno), default, text_cell(v.docment)
        lines = [row(f'`{k}`', v) for k,v in rows.items()]
        if not inspect.isclass(self.sym) and (dm['return'].docment or self._type('return')):
            lines.append(row('**returns**', dm['return']))
        cols = [o for o in zip(('parameter', 'type', 'default', 'details'), ('---',)*4, *lines) if any(o[2:])]
        return '\n'.join('| ' + ' | '.join(o) + ' |' for o in zip(*cols))

    def anchors(self):
        "Places for nbdev's links to the methods that a class brings along: they have no heading of their own"
        own = vars(self.sym) if inspect.isclass(self.sym) else {}
        return ''.join(f'<span id="{self.sym.__name__.lower()}.{k}"></span>' for k,v in own.items()
                       if not k.startswith('_') and inspect.isroutine(getattr(v, 'fget', v)))

    def _repr_markdown_(self):
        src = NbdevLookup().code(self.fn)
        link = f'[source]({src}){{target="_blank" style="float:right; font-size:smaller"}}' if src else ''
        first,*more = self.docs.split('\n\n')
        docs = ['*' + re.sub(r'(`[^`]*`)|\*', lambda m: m[1] or r'\*', text_cell(first)) + '*', *more] if self.docs else []
        signature = f'```python\n{self.signature()}\n```' if self.sig else ''
        return '\n\n'.join(filter(None, ['---', link, f'{"#"*self.title_level} {self.nm}', self.anchors(),
                                          signature, *docs, self.table()]))
