"The house as a picture of imports: a module imports from its own floor and from those below, never from above, and never in a circle."
import ast
from conftest import root

floors = ['', 'data', 'model', 'callback', 'record', 'run', 'report', 'top'] # '' is the ground; 'top' are the commands and `all`
top = ('cli', 'all')

def modules():
    "Module → its path, such as `callback.mixup`"
    package = root/'imagenet_nb'
    return {'.'.join(p.relative_to(package).with_suffix('').parts): p for p in sorted(package.rglob('*.py')) if not p.name.startswith('_')}

def floor(module): return floors.index('top' if module in top else module.rpartition('.')[0])

def imports(module, path):
    "The modules of the package that `module` imports anywhere, in functions too"
    here = module.split('.')[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.level: yield '.'.join([*here[:len(here)-node.level+1], *(node.module or '').split('.')]).strip('.')
        elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('imagenet_nb.'): yield node.module.removeprefix('imagenet_nb.')

def picture():
    "Module → the modules that it imports"
    found = modules()
    assert len(found) > 30, 'the package is not exported'
    return {m: {o for o in imports(m, p) if o in found} for m,p in found.items()}

def test_no_import_from_above():
    up = [f'{m} imports {o}' for m,os in picture().items() for o in os if floor(o) > floor(m)]
    assert not up, '\n'.join(up)

def test_no_circle():
    todo = picture()
    while ready := [m for m,os in todo.items() if not os & todo.keys()]:
        for m in ready: del todo[m]
    assert not todo, f'a circle among {", ".join(sorted(todo))}'

def test_every_package_is_a_floor():
    assert {m.rpartition('.')[0] for m in modules()} == set(floors) - {'top'}

def test_modules_stay_readable():
    "A module has one job, and stays under about 300 lines of code"
    limits = dict(config=440) # half of it is the table of options, which grows with them
    long = {m: n for m,p in modules().items() if (n := len(p.read_text(encoding='utf-8').splitlines())) > limits.get(m, 340)}
    assert not long, long
