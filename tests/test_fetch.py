"What is fetched over real HTTP, from servers on this machine: Imagenette, and the refusals of a gated dataset."
import os, subprocess, sys, tarfile, threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from imagenet_nb.data.source import imagenette_source
from test_mistakes import tree

def test_imagenette_is_fetched_where_it_is_absent(tmp_path, monkeypatch):
    from fastai.data.external import URLs
    (tmp_path/'www').mkdir()
    tree(tmp_path/'imagenette2-320')
    with tarfile.open(tmp_path/'www'/'imagenette2-320.tgz', 'w:gz') as t: t.add(tmp_path/'imagenette2-320', 'imagenette2-320')
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(SimpleHTTPRequestHandler, directory=tmp_path/'www'))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setattr(URLs, 'IMAGENETTE_320', f'http://127.0.0.1:{server.server_port}/imagenette2-320.tgz')
        (tmp_path/'here').mkdir(); monkeypatch.chdir(tmp_path/'here')
        src = imagenette_source('data')
    finally: server.shutdown(); server.server_close()
    assert (src.n_train, len(src.items), src.ids) == (12, 18, ['ant', 'bee', 'cat'])
    assert (tmp_path/'here'/'data'/'imagenette2-320'/'train'/'ant').is_dir()
    assert imagenette_source('data').n_train == 12 # found; the server is gone

class Refusing(BaseHTTPRequestHandler):
    "A Hub that answers each dataset with the code in its name"
    def log_message(self, *args): pass
    def do_GET(self):
        code = next((c for c in (401, 403, 404, 500) if f'r{c}' in self.path), 404)
        self.send_response(code)
        if code in (401, 403): self.send_header('X-Error-Code', 'GatedRepo')
        if code == 404: self.send_header('X-Error-Code', 'RepoNotFound')
        self.send_header('Content-Length', '0'); self.end_headers()
    do_HEAD = do_GET

asking = '''
import sys, datasets, huggingface_hub
from imagenet_nb.core import UserError
from imagenet_nb.data.source import hub_source
for repo in ("me/r401", "me/r403", "me/r404", "offline"):
    if repo == "offline": huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try: hub_source(sys.argv[1], "swordfish", repo)
    except UserError as e: print(e)
'''

def test_a_gated_dataset_says_what_to_do(tmp_path):
    "Not logged in, no access, not there, no network: four things to do, in four lines"
    server = ThreadingHTTPServer(('127.0.0.1', 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: r = subprocess.run([sys.executable, '-c', asking, str(tmp_path/'data')], capture_output=True, text=True, timeout=120, cwd=tmp_path,
                            env=os.environ | dict(HF_ENDPOINT=f'http://127.0.0.1:{server.server_port}', HF_HOME=str(tmp_path/'home')))
    finally: server.shutdown(); server.server_close()
    said = r.stdout.splitlines()
    assert len(said) == 4 and all(o.startswith('--dataset imagenet-1k: ') for o in said) and 'swordfish' not in r.stdout+r.stderr, r.stdout+r.stderr
    for line,words in zip(said, ('hf auth login', 'no access yet: ask for it', 'is not on the Hub', 'the Hub cannot be reached')): assert words in line
