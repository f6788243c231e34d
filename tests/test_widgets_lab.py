"A real JupyterLab in a real browser: a hand on a slider changes the plot, and after a reload the dashboard is there and goes on."
import importlib.util, json, os, shutil, subprocess, sys, urllib.request
from contextlib import contextmanager
import nbformat, pytest
from conftest import root, until
from imagenet_nb.config import Config
from imagenet_nb.core import write_json
from imagenet_nb.callback.history import add_epoch, new_history
from imagenet_nb.flags import config_to_dict

@contextmanager
def browser_page(timeout=120):
    "A page in a headless browser, the system's or Playwright's own; the test is skipped where there is none"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        exe = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), p.chromium.executable_path)
        if not os.path.exists(exe): pytest.skip('no browser is installed: playwright install chromium')
        browser = p.chromium.launch(executable_path=exe, args=['--no-sandbox', '--disable-gpu'])
        page = browser.new_page(viewport=dict(width=1400, height=1400))
        page.set_default_timeout(timeout*1000)
        try: yield page
        finally: browser.close()

@contextmanager
def lab(folder, token='a-token'):
    "JupyterLab over `folder`, with none of the settings of the person who tests; gives its address"
    env = {k: v for k,v in os.environ.items() if k != 'IMAGENET_NB_STATIC'}
    env |= {f'JUPYTER_{o}_DIR': str(folder/'jupyter'/o.lower()) for o in ('CONFIG', 'DATA', 'RUNTIME')}
    env |= dict(IPYTHONDIR=str(folder/'ipython'), JUPYTERLAB_SETTINGS_DIR=str(folder/'jupyter'/'settings'),
                JUPYTERLAB_WORKSPACES_DIR=str(folder/'jupyter'/'workspaces'), PYTHONPATH=os.pathsep.join(filter(None, [str(root), env.get('PYTHONPATH')])))
    news = folder/'jupyter'/'settings'/'@jupyterlab'/'apputils-extension'/'notification.jupyterlab-settings'
    news.parent.mkdir(parents=True); news.write_text('{"fetchNews": "false"}') # its question would lie over the page
    cmd = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--port=0', f'--IdentityProvider.token={token}',
           f'--ServerApp.root_dir={folder}', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate']
    with open(folder/'lab.log', 'w') as log: server = subprocess.Popen(cmd, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
    def answers():
        assert server.poll() is None, (folder/'lab.log').read_text()[-3000:]
        try:
            port = json.loads(next((folder/'jupyter'/'runtime').glob('jpserver-*.json')).read_text())['port'] # the one that was free
            urllib.request.urlopen(f'http://127.0.0.1:{port}/api/status?token={token}', timeout=5); return port
        except (StopIteration, ValueError, OSError): return # not yet
    try: yield f'http://127.0.0.1:{until(answers, "JupyterLab")}/lab/tree/touch.ipynb?token={token}'
    finally:
        server.terminate() # its kernels go with it
        try: server.wait(30)
        except subprocess.TimeoutExpired: server.kill(); server.wait()

def whole(path):
    "The notebook, or None while it is being written"
    try: return nbformat.read(path, as_version=4)
    except ValueError: return

def train_to(folder, hist, n, total=3):
    "The files of a run after `n` epochs"
    write_json(folder/'config.json', config_to_dict(Config(epochs=total)))
    while len(hist['epochs']) < n: add_epoch(hist, dict(train_loss=2., valid_loss=2., train_accuracy=.1, valid_accuracy=.1*len(hist['epochs']), lr=.1, seconds=60))
    write_json(folder/'metrics.json', hist)

@pytest.mark.skipif(any(importlib.util.find_spec(o) is None for o in ('playwright', 'jupyterlab', 'ipywidgets')),
                    reason='this test needs playwright, jupyterlab and ipywidgets: pip install -e ".[dev]"')
def test_a_slider_moves_the_plot_and_a_reload_keeps_the_run(tmp_path):
    run,hist = tmp_path/'checkpoint_1',new_history()
    run.mkdir(); train_to(run, hist, 1)
    code = ['from imagenet_nb.report.dashboard import run_dashboard\nfrom imagenet_nb.report.widgets import schedule_explorer\nschedule_explorer()', 'run_dashboard("checkpoint_1", every=.2)']
    kernel = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(o) for o in code], metadata=kernel), tmp_path/'touch.ipynb')
    with browser_page() as page, lab(tmp_path) as url:
        page.goto(url)
        page.get_by_text('Python 3 (ipykernel) | Idle').wait_for() # a cell that is run before the kernel is there may be lost
        page.locator('.jp-Notebook .cm-content').first.click()
        for _ in code: page.keyboard.press('Shift+Enter')
        cells = page.locator('.jp-Notebook .jp-CodeCell')
        explorer,dashboard = cells.nth(0),cells.nth(1)
        plot,config = explorer.locator('img'),explorer.locator('textarea')
        plot.wait_for()
        before,said = plot.get_attribute('src'),json.loads(config.input_value())
        assert plot.evaluate('o => o.complete && o.naturalWidth') > 300

        slider = explorer.locator('.widget-slider', has=page.get_by_text('T_0', exact=True))
        box = slider.locator('.noUi-handle').bounding_box()
        page.mouse.move(box['x']+box['width']/2, box['y']+box['height']/2); page.mouse.down()
        page.mouse.move(box['x']+60, box['y']+box['height']/2, steps=5); page.mouse.up()
        page.wait_for_function('([o, src]) => o.src != src && o.complete && o.naturalWidth > 300', arg=[plot.element_handle(), before])
        page.wait_for_function('([o, n]) => JSON.parse(o.value).scheduler.cosine.T_0 == n.innerText', # the last of the drag's values has arrived
                               arg=[config.element_handle(), slider.locator('.widget-readout').element_handle()])
        now = json.loads(config.input_value())
        assert now['scheduler']['cosine']['T_0'] > said['scheduler']['cosine']['T_0'] and now['run'] == said['run']
        page.screenshot(path=tmp_path/'lab.png') # to be looked at

        dashboard.get_by_text('checkpoint_1: epoch 1 of 3').wait_for()
        train_to(run, hist, 2)
        dashboard.get_by_text('epoch 2 of 3').wait_for()
        page.keyboard.press('Control+s')
        page.locator('.jp-Notebook .jp-CodeCell').first.wait_for()
        until(lambda: 'widget-view' in (tmp_path/'touch.ipynb').read_text(), 'the saved notebook')
        page.reload()
        dashboard.get_by_text('epoch 2 of 3').wait_for() # the kernel was not restarted, and nothing was run again
        train_to(run, hist, 3)
        dashboard.get_by_text('finished').wait_for()
        assert dashboard.locator('img').evaluate('o => o.naturalWidth') > 300 and explorer.locator('textarea').input_value() == json.dumps(now, indent=2)

    saved = nbformat.read(tmp_path/'touch.ipynb', as_version=4)
    for cell in saved.cells[:2]: # what a viewer without a kernel will find in the file
        assert {'application/vnd.jupyter.widget-view+json', 'image/png'} <= set(cell.outputs[-1].data)

@pytest.mark.skipif(any(importlib.util.find_spec(o) is None for o in ('playwright', 'jupyterlab', 'ipywidgets')),
                    reason='this test needs playwright, jupyterlab and ipywidgets: pip install -e ".[dev]"')
def test_the_first_tutorial(tmp_path):
    "A person opens the first tutorial, runs every cell of it, and then moves a slider of its explorer"
    nb = nbformat.read(root/'nbs'/'tutorials'/'first_run.ipynb', as_version=4)
    for c in nb.cells:
        if c.cell_type == 'code': c.outputs,c.execution_count = [],None
    nbformat.write(nb, tmp_path/'touch.ipynb')
    with browser_page(timeout=240) as page, lab(tmp_path) as url:
        page.goto(url)
        page.get_by_text('Python 3 (ipykernel) | Idle').wait_for()
        page.locator('.jp-Notebook .jp-Cell').first.click()
        page.keyboard.press('Escape') # from typing to choosing cells
        active = '.jp-Notebook .jp-Cell.jp-mod-active'
        for _ in nb.cells:
            at = page.locator(active).get_attribute('data-windowed-list-index')
            page.keyboard.press('Shift+Enter')
            page.wait_for_function('([o, at]) => document.querySelector(o)?.dataset.windowedListIndex != at', arg=[active, at]) # the next one is chosen
        page.get_by_text('imagenet_report first_run').wait_for() # what the last cell prints
        explorer = page.locator('.jp-Notebook .jp-CodeCell', has=page.locator('.widget-slider'))
        plot,config = explorer.locator('img'),explorer.locator('textarea')
        assert json.loads(config.input_value())['scheduler']['cosine']['T_0'] == 3 # the tutorial's own config: it was run
        before = plot.get_attribute('src')
        handle = explorer.locator('.widget-slider', has=page.get_by_text('T_0', exact=True)).locator('.noUi-handle')
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        page.mouse.move(box['x']+box['width']/2, box['y']+box['height']/2); page.mouse.down()
        page.mouse.move(box['x']+60, box['y']+box['height']/2, steps=5); page.mouse.up()
        page.wait_for_function('([o, src]) => o.src != src && o.complete && o.naturalWidth > 300', arg=[plot.element_handle(), before])
        page.screenshot(path=tmp_path/'tutorial.png')
        before = (tmp_path/'touch.ipynb').stat().st_mtime_ns
        page.keyboard.press('Control+s')
        saved = until(lambda: (tmp_path/'touch.ipynb').stat().st_mtime_ns != before and whole(tmp_path/'touch.ipynb'), 'the saved notebook')
    errors = [o for c in saved.cells if c.cell_type == 'code' for o in c.outputs if o.output_type == 'error']
    left = [c.source for c in saved.cells if c.cell_type == 'code' and c.source and not c.execution_count]
    assert not errors and not left, (errors, left)
