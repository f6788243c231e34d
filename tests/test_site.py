"The built site in a real browser: every page, every link, the search, light and dark, and the width of a phone."
import configparser, functools, os, re, shutil, threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlparse
import pytest, yaml
from conftest import root

site = root/'_docs'
pages = sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html')) if site.exists() else []
pytestmark = pytest.mark.skipif(not pages, reason='the site is not built: make docs')
settings = configparser.ConfigParser(); settings.read(root/'settings.ini', encoding='utf-8')
host = '{doc_host}{doc_baseurl}'.format(**settings['DEFAULT']) # where nbdev's own links point
chromium = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)

class Links(HTMLParser):
    "The links and the anchors of a page"
    def __init__(self, text): super().__init__(); self.links,self.ids = [],set(); self.feed(text)
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k)}
        self.links += [a[k] for k in ('href', 'src') if a.get(k)]

@functools.cache
def parsed(page): return Links((site/page).read_text(encoding='utf-8'))

def test_no_broken_link():
    bad = []
    for p in pages:
        for link in parsed(p).links:
            if link == host or link.startswith(host + '/'): link = link.removeprefix(host) or '/'
            u = urlparse(link)
            if u.scheme or u.netloc or link.startswith('//'): continue
            path = unquote(urlparse(urljoin(f'/{p}', link)).path).lstrip('/') or 'index.html'
            if not (site/path).exists(): bad.append(f'{p}: {link}')
            elif u.fragment and path.endswith('.html') and unquote(u.fragment) not in parsed(path).ids: bad.append(f'{p}: {link}')
    assert not bad, '\n'.join(sorted(set(bad))[:40])

def test_the_menu_is_complete():
    "Every page that the menu names is there, and names all of them in turn"
    def names(o): return [o] if isinstance(o, str) else [n for part in (o if isinstance(o, list) else o['contents']) for n in names(part)]
    todo = [re.sub(r'(^|/)\d+[a-zA-Z0-9]*_', r'\1', n).removesuffix('.ipynb') + '.html' for n in names(yaml.safe_load((root/'_quarto.yml').read_text())['website']['sidebar'])]
    assert len(todo) == len(list((root/'nbs').glob('*.ipynb')) + list((root/'nbs').glob('[!._]*/[!._]*.ipynb'))) and not set(todo) - set(pages), set(todo) - set(pages)
    for p in todo:
        there = {unquote(urlparse(urljoin(f'/{p}', link.removeprefix(host))).path).lstrip('/') or 'index.html' for link in parsed(p).links}
        assert not set(todo) - there, (p, set(todo) - there)

def test_parameters_are_tables():
    "Docments stand in a table below the signature, not in it, and no Markdown is left in a code block"
    page = (site/'callback.schedule.html').read_text(encoding='utf-8')
    assert '<td>share of the steps that go up, 0 to 1</td>' in page
    code = re.findall(r'<pre.*?</pre>', ''.join((site/p).read_text(encoding='utf-8') for p in pages), flags=re.S)
    assert not [o for o in code if f']({host}' in o]

@pytest.fixture(scope='module')
def address():
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *a): pass
    s = ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{s.server_port}'
    s.shutdown(); s.server_close()

@pytest.fixture(scope='module')
def browser():
    api = pytest.importorskip('playwright.sync_api', reason='Playwright is not installed')
    with api.sync_playwright() as p:
        exe = chromium or p.chromium.executable_path
        if not os.path.exists(exe): pytest.skip('no browser is installed: playwright install chromium')
        b = p.chromium.launch(executable_path=exe, args=['--no-sandbox', '--disable-gpu'])
        yield b
        b.close()

def open_page(browser, address, page='', **kw):
    "A page with everything that is not ours left out, and the errors that it reports"
    tab = browser.new_page(**kw)
    tab.route(lambda url: not url.startswith(address), lambda r: r.abort())
    errors = []
    tab.on('console', lambda m: errors.append(m.text) if m.type == 'error' and (m.location or {}).get('url', '').startswith(address) else None)
    tab.on('pageerror', lambda e: errors.append(str(e)))
    tab.goto(f'{address}/{page}', wait_until='load')
    return tab,errors

def test_every_page_loads(browser, address):
    for p in pages:
        tab,errors = open_page(browser, address, p)
        assert tab.locator('h1').count() >= 1 and not errors, (p, errors)
        tab.close()

def test_search_finds_fit_sgdr(browser, address):
    tab,_ = open_page(browser, address, 'index.html')
    box = tab.locator('input[type=search]').first
    box.click(); box.press_sequentially('fit_sgdr', delay=20)
    tab.wait_for_function("[...document.querySelectorAll('a')].some(a => /callback\\.schedule\\.html/.test(a.getAttribute('href') || '') && /sgdr/i.test(a.textContent + (a.parentElement || a).textContent) && a.offsetParent)", timeout=10_000)
    tab.close()

def contrast(a, b):
    "Of two CSS colours, as WCAG 2 has it"
    def luminance(c):
        c = [v/12.92 if v <= .04045 else ((v+.055)/1.055)**2.4 for v in (int(o)/255 for o in re.findall(r'\d+', c)[:3])]
        return .2126*c[0] + .7152*c[1] + .0722*c[2]
    x,y = sorted((luminance(a), luminance(b)))
    return (y+.05)/(x+.05)

@pytest.mark.parametrize('how', ['light', 'dark'])
def test_search_results_can_be_read(browser, address, how):
    assert abs(contrast('rgb(0, 0, 0)', 'rgb(255, 255, 255)') - 21) < 1e-6
    tab,_ = open_page(browser, address, 'index.html', color_scheme=how)
    tab.locator('input[type=search]').first.click()
    tab.locator('input[type=search]').first.press_sequentially('cosine', delay=20)
    tab.locator('.search-result-text').first.wait_for()
    for part in ('title', 'section', 'text'):
        for o in tab.locator(f'.search-result-{part}').all()[:5]:
            ink,ground = o.evaluate('o => [getComputedStyle(o).color, getComputedStyle(o.closest(".search-result")).backgroundColor]')
            assert contrast(ink, ground) > 4.5 and (contrast(ground, 'rgb(255, 255, 255)') < 2) == (how == 'light'), (part, ink, ground)
    tab.close()

@pytest.mark.parametrize('how', ['light', 'dark', 'phone'])
def test_looks(browser, address, how, tmp_path):
    "Screenshots for a person (kept where IMAGENET_NB_SHOTS says), and what a program can see: nothing wider than the screen, another background in the dark"
    kw = dict(light=dict(color_scheme='light'), dark=dict(color_scheme='dark'), phone=dict(viewport=dict(width=390, height=844), is_mobile=True, has_touch=True))[how]
    shots = Path(os.environ.get('IMAGENET_NB_SHOTS', tmp_path)); shots.mkdir(exist_ok=True)
    for p in ('index.html', next(o for o in pages if 'schedule' in o), next(o for o in pages if 'first_run' in o)):
        tab,_ = open_page(browser, address, p, **kw)
        tab.screenshot(path=str(shots/f'{how}_{Path(p).stem}.png'))
        if how == 'phone': assert tab.evaluate('document.documentElement.scrollWidth - window.innerWidth') <= 1, p
        tab.close()
