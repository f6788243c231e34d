"A Hub on this machine: the real client and the real `hf` against a real HTTP server, with repositories in memory."
import base64, hashlib, json, os, re, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Hub:
    "As a context: a server that takes small regular files, and gives them back; `repos` is repository → path → bytes"
    def __init__(self,
        answer=200, # another status refuses everything
        repos=None, # what lies there before
    ): self.answer,self.repos,self.tokens,self.asked = answer,repos or {},set(),[]

    def __enter__(self):
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), type('Handler', (Handler,), dict(hub=self)))
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self
    def __exit__(self, *args): self.server.shutdown(); self.server.server_close()

    def env(self,
        home, # an empty folder for the client's cache and login
        **more, # further variables, such as `HF_TOKEN`
    ) -> dict: # for a process that shall know this Hub and no other
        "The environment of a process"
        own = {k: v for k,v in os.environ.items() if not k.startswith(('HF_', 'HUGGING'))}
        return own | dict(HF_ENDPOINT=self.url, HF_HOME=str(home), HF_HUB_DISABLE_PROGRESS_BARS='1', HF_HUB_DISABLE_TELEMETRY='1',
                          HF_HUB_DISABLE_UPDATE_CHECK='1') | more

class Handler(BaseHTTPRequestHandler):
    "The few addresses of the Hub's API that a download and a commit of regular files use"
    def log_message(self, *args): pass

    def send(self, code, body=b'', **headers):
        if not isinstance(body, bytes): body = json.dumps(body).encode()
        self.send_response(code)
        for k,v in (dict(Content_Type='application/json') | headers | dict(Content_Length=str(len(body)))).items():
            self.send_header(k.replace('_', '-'), v)
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)

    def sent(self):
        "The body of the request, also where it comes in chunks"
        if 'chunked' not in (self.headers.get('Transfer-Encoding') or ''):
            return self.rfile.read(int(self.headers.get('Content-Length') or 0))
        body = b''
        while n := int(self.rfile.readline(), 16): body += self.rfile.read(n); self.rfile.readline()
        self.rfile.readline()
        return body

    def refused(self):
        self.hub.asked.append(f'{self.command} {self.path}')
        if self.headers.get('Authorization'): self.hub.tokens.add(self.headers['Authorization'].removeprefix('Bearer '))
        if self.hub.answer == 200: return False
        self.send(self.hub.answer, dict(error='no'))
        return True

    def missing(self, what): self.send(404, dict(error=what), X_Error_Code=what)

    def do_GET(self):
        if self.refused(): return
        path = self.path.partition('?')[0]
        if path == '/api/whoami-v2': return self.send(200, dict(name='me', type='user', orgs=[]))
        if m := re.fullmatch(r'/api/models/([^/]+/[^/]+)(?:/revision/\w+)?', path):
            if m[1] not in self.hub.repos: return self.missing('RepoNotFound')
            return self.send(200, self.about(m[1]))
        if m := re.fullmatch(r'/([^/]+/[^/]+)/resolve/(\w+)/(.+)', path):
            if m[1] not in self.hub.repos: return self.missing('RepoNotFound')
            if m[3] not in self.hub.repos[m[1]]: return self.missing('EntryNotFound')
            body = self.hub.repos[m[1]][m[3]]
            return self.send(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit='1'*40)
        self.missing(path)
    do_HEAD = do_GET

    def about(self, repo):
        "What the Hub says of a model, with the head of its card"
        import yaml
        files = self.hub.repos[repo]
        head = re.match(r'---\n(.*?)\n---\n', files.get('README.md', b'').decode(), re.S)
        return dict(id=repo, modelId=repo, sha='1'*40, siblings=[dict(rfilename=n) for n in files], tags=[], downloads=0, likes=0,
                    private=False) | (dict(cardData=yaml.safe_load(head[1])) if head else {})

    def do_POST(self):
        body = self.sent()
        if self.refused(): return
        if self.path == '/api/repos/create':
            d = json.loads(body)
            repo = f'{d.get("organization") or "me"}/{d["name"]}'
            self.hub.repos.setdefault(repo, {})
            return self.send(200, dict(url=f'{self.hub.url}/{repo}', name=repo, id='1'))
        if self.path == '/api/validate-yaml': return self.send(200, dict(errors=[], warnings=[]))
        if m := re.match(r'/api/models/([^/]+/[^/]+)/(preupload|commit)/', self.path):
            if m[1] not in self.hub.repos: return self.missing('RepoNotFound')
            return self.preupload(json.loads(body)) if m[2] == 'preupload' else self.commit(m[1], body)
        self.missing(self.path)

    def preupload(self, d): # no file goes by Git LFS or Xet
        self.send(200, dict(files=[dict(path=f['path'], uploadMode='regular', shouldIgnore=False) for f in d['files']]))

    def commit(self, repo, body):
        for o in map(json.loads, body.splitlines()):
            if o['key'] == 'file': self.hub.repos[repo][o['value']['path']] = base64.b64decode(o['value']['content'])
        self.send(200, dict(commitUrl=f'{self.hub.url}/{repo}/commit/{"1"*40}', commitOid='1'*40, success=True, hookOutput=''))
