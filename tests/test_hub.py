"Uploads and what comes back: the command, the real client and the real `hf`, against a Hub on this machine."
import io, json, os, re, subprocess, sys, zipfile
from pathlib import Path
import pytest
from conftest import root
from hub import Hub
from imagenet_nb.core import UserError

quick = ['--preset', 'quickstart', '--model', 'wideresnet10-1', '--size', '16', '--epochs', '1']
path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}' # where `hf` lies beside this Python

def trained(where, env, *words):
    "A short run in the folder `where`, in a process of its own"
    r = subprocess.run([sys.executable, str(root/'train.py'), *quick, *map(str, words)], cwd=where, env=env,
                       capture_output=True, text=True, timeout=600)
    assert r.returncode == 0, r.stdout+r.stderr
    return r

def found(files, *words):
    "Which of `words` lie in the uploaded `files`, also inside of what torch has packed"
    packed = [zipfile.ZipFile(io.BytesIO(f)) for f in files.values() if zipfile.is_zipfile(io.BytesIO(f))]
    raw = b'\n'.join([*files.values(), *(z.read(n) for z in packed for n in z.namelist())])
    return [w for w in words if w.encode() in raw]

def head(card): return re.match(r'---\n(.*?)\n---\n', card, re.S)[1].splitlines()

@pytest.fixture
def place(tmp_path):
    "A folder with a name that a shell must not take apart"
    d = tmp_path/"Ann's own $HOME runs"; (d/'photos').mkdir(parents=True)
    return d

def test_the_printed_command_uploads_the_same_public_files(place, tmp_path):
    with Hub(403) as hub:
        env = hub.env(tmp_path/'home', PATH=path)
        r = trained(place, env, '--data-dir', place/'photos', '--checkpoint-dir', place/'run', '--hf-repo', 'me/net', '--hf-token', 'swordfish')
        assert 'the token may not write there' in r.stderr and 'swordfish' not in r.stdout+r.stderr
        assert hub.repos == {}
        hub.answer = 200
        command = re.search('hf upload .*', r.stderr)[0]
        r = subprocess.run(command, shell=True, env=env | dict(HF_TOKEN='swordfish'), cwd=place, capture_output=True, text=True, timeout=120)
        assert r.returncode == 0, r.stdout+r.stderr
        later = dict(hub.repos['me/net'])
        assert set(later) == {'README.md', 'best_model.pth', 'config.json', 'metrics.json', 'training_curves.png'}
        r = trained(place, env, '--data-dir', place/'photos', '--resume-from', place/'run', '--hf-repo', 'me/net', '--hf-token', 'swordfish')
        assert 'uploaded to' in r.stdout and not (place/'run'/'hub').exists()
    assert found(later, str(tmp_path), place.name, 'photos', 'swordfish') == []
    for n in later: assert n.endswith('.pth') or hub.repos['me/net'][n] == later[n], n # the command brings what the upload would have brought
    assert json.loads((place/'run'/'config.json').read_text())['run']['data_dir'] == str(place/'photos') # the run itself is whole

def test_the_uploaded_config_repeats_the_run(place, tmp_path):
    with Hub() as hub:
        env = hub.env(tmp_path/'home')
        trained(place, env, '--data-dir', 'photos', '--checkpoint-dir', 'run', '--hf-repo', 'me/net', '--hf-token', 'swordfish')
    (place/'down').mkdir(); (place/'down'/'config.json').write_bytes(hub.repos['me/net']['config.json'])
    r = trained(place, env, '--config', 'down/config.json', '--data-dir', 'photos', '--checkpoint-dir', 'again')
    losses = [json.loads((place/n/'metrics.json').read_text())['train_losses'] for n in ('run', 'again')]
    assert losses[0] == losses[1] and 'upload' not in r.stdout+r.stderr # nobody else's run goes into this repository

def test_the_licence_follows_the_weights(place, tmp_path):
    with Hub() as hub:
        env = hub.env(tmp_path/'home')
        trained(place, env, '--checkpoint-dir', 'first', '--hf-repo', 'me/base', '--hf-token', 'swordfish')
        base = hub.repos['me/base']
        assert 'license: apache-2.0' in head(base['README.md'].decode())
        base['README.md'] = base['README.md'].replace(b'license: apache-2.0', b'license: cc-by-nc-4.0') # its owner says otherwise
        trained(place, env, '--init-from', 'me/base', '--checkpoint-dir', 'second', '--hf-repo', 'me/net', '--hf-token', 'swordfish')
    card = hub.repos['me/net']['README.md'].decode()
    assert {'license: cc-by-nc-4.0', 'base_model: me/base'} <= set(head(card)) and '\nWeights: fine-tuned from `me/base`, ' in card
    assert json.loads(hub.repos['me/net']['config.json'])['run']['init_from'] == 'me/base'
    offline = env | dict(HF_HUB_OFFLINE='1')
    trained(place, offline, '--resume-from', 'second', '--epochs', 2) # what the card has said stays, whether the Hub is there or not
    assert {'license: cc-by-nc-4.0', 'base_model: me/base'} <= set(head((place/'second'/'README.md').read_text()))
    trained(place, offline, '--init-from', 'me/base', '--checkpoint-dir', 'third') # the weights are in the cache, the card is not
    card = (place/'third'/'README.md').read_text()
    assert 'license' not in ' '.join(head(card)) and 'whose card could not be read' in card
    trained(place, offline, '--init-from', 'second/best_model.pth', '--checkpoint-dir', 'fourth')
    assert {'license: cc-by-nc-4.0', 'base_model: me/base'} <= set(head((place/'fourth'/'README.md').read_text()))

def test_a_card_of_an_earlier_version_is_cleaned_too(tmp_path):
    from imagenet_nb.run.card import card_text
    from imagenet_nb.config import Config
    from imagenet_nb.callback.history import new_history
    from imagenet_nb.run.hub import public_copies
    from imagenet_nb.flags import config_to_dict, save_config
    cfg = Config(data_dir='photos', init_from='weights/mine.pth')
    old = card_text(cfg, new_history(), {}).replace('\nWeights: ', '\n')
    old = re.sub(r'```json\n.*?\n```', lambda m: f'```json\n{json.dumps(config_to_dict(cfg), indent=1)}\n```', old, flags=re.S)
    (tmp_path/'README.md').write_text(old + f'\nsee {tmp_path}/bad_files.txt\n'); save_config(cfg, tmp_path/'config.json')
    files = {p.name: p.read_bytes() for p in public_copies(tmp_path).iterdir()}
    assert found(files, 'photos', 'weights/', str(tmp_path)) == [] and found(files, '<mine.pth>', 'see …') == ['<mine.pth>', 'see …']

def test_no_room_for_the_copies_is_one_line(tmp_path, monkeypatch):
    from imagenet_nb.run import hub
    def full(*args): raise OSError(28, 'No space left on device')
    (tmp_path/'training_curves.png').write_bytes(b'x')
    monkeypatch.setattr(hub.shutil, 'copyfile', full)
    with pytest.raises(UserError, match='No space left on device.*nothing was uploaded; the run is safe'): hub.push_run(tmp_path, 'me/net')
    assert [p.name for p in tmp_path.iterdir()] == ['training_curves.png']
