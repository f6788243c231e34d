"Imagenette fetched over real HTTP, from a server on this machine, into a relative folder, and then found there."
import tarfile, threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from imagenet_nb.data import imagenette_source
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
