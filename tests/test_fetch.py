"What is fetched over real HTTP, from servers on this machine: Imagenette, and the refusals of a gated dataset."
import tarfile, threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
import pytest
from imagenet_nb.core import UserError
from imagenet_nb.data import hub_source, imagenette_source
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

def test_a_gated_dataset_says_what_to_do(tmp_path, monkeypatch):
    "Not logged in, no access, not there, no network: four things to do, in four lines"
    import datasets, huggingface_hub
    def at(url):
        monkeypatch.setattr(huggingface_hub.constants, 'ENDPOINT', url)
        monkeypatch.setattr(datasets.config, 'HF_ENDPOINT', url)
    def says(repo):
        with pytest.raises(UserError) as e: hub_source(tmp_path/'data', 'swordfish', repo)
        assert 'swordfish' not in str(e.value) and len(str(e.value).splitlines()) == 1 and f'--dataset imagenet-1k: {repo} ' in str(e.value)
        return str(e.value)
    server = ThreadingHTTPServer(('127.0.0.1', 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        at(f'http://127.0.0.1:{server.server_port}')
        assert 'hf auth login' in says('me/r401') and 'no access yet: ask for it' in says('me/r403') and 'is not on the Hub' in says('me/r404')
    finally: server.shutdown(); server.server_close()
    assert 'the Hub cannot be reached' in says('me/r404')
