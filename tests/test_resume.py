"Runs that are killed, signalled, starved of disk and started twice: real processes, real signals, a real small disk."
import json, multiprocessing, os, random, shutil, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from conftest import root, until, warm
from imagenet_nb.model.weights import load_tensors
from imagenet_nb.callback.history import time_keys

quick = ['--preset', 'quickstart', '--model', 'wideresnet10-1', '--size', '16', '--epochs', '3']
timeless = lambda folder: {k: v for k,v in json.loads((folder/'metrics.json').read_text()).items() if k not in time_keys}

def stand_at(epoch, step):
    "In a process of its own: before this step of training the run leaves the file `here`, and goes on once a signal has come"
    from fastai.learner import Learner
    old = Learner.one_batch
    def one_batch(self, i, b):
        if self.training and (self.epoch+1, i+1) == (epoch, step): Path('here').touch(); until(lambda: self.signals.caught, 'a signal')
        old(self, i, b)
    Learner.one_batch = one_batch

def child(folder, argv, at=None, out='log.txt', err='log.txt'):
    "In a process of its own: the command, in `folder`"
    import torch
    os.setsid() # a process group of its own
    signal.signal(signal.SIGINT, signal.default_int_handler) # a shell's background job ignores it
    multiprocessing.set_start_method('fork', force=True) # for its workers, as in any process that was not made this way
    os.chdir(folder)
    sys.stdout,sys.stderr = (open(o, 'a', buffering=1) for o in (out, err))
    torch.set_num_threads(1)
    from imagenet_nb.cli import train_command
    if at: stand_at(*at)
    train_command(argv)

@pytest.fixture(scope='module')
def start():
    "Start the command in a new process"
    started = []
    def go(folder, *argv, at=None):
        p = warm().Process(target=child, args=(str(folder), [*quick, *argv], at))
        p.start(); started.append(p); return p
    yield go
    for p in started: p.kill() # what a failed test has left

@pytest.fixture
def call(tmp_path):
    "Call the command in a new process in a folder of its own, as conftest's `call` does in one that must import everything first"
    def go(*words):
        for o in ('out.txt', 'err.txt'): (tmp_path/o).unlink(missing_ok=True)
        p = warm().Process(target=child, args=(str(tmp_path), [*map(str, words)], None, 'out.txt', 'err.txt'))
        p.start(); p.join(600)
        return subprocess.CompletedProcess(words, p.exitcode, *((tmp_path/o).read_text() for o in ('out.txt', 'err.txt')))
    return go

def finished(p, code=0):
    p.join(180); assert p.exitcode == code

@pytest.fixture(scope='module')
def whole(start, tmp_path_factory):
    "The run that nobody disturbed"
    d = tmp_path_factory.mktemp('whole')
    finished(start(d, '--checkpoint-dir', 'run'))
    return d/'run'

def same(a, b):
    "Byte for byte the same record (times aside), and the same weights and optimizer"
    assert timeless(a) == timeless(b)
    for n in ('training_state_epoch3.pth', 'best_model.pth'):
        x,y = load_tensors(a/n),load_tensors(b/n)
        for k in x['model']: assert x['model'][k].equal(y['model'][k]), k
        if 'optimizer' in x:
            for i,s in x['optimizer']['state'].items():
                for k,v in s.items(): assert v.equal(y['optimizer']['state'][i][k]) if hasattr(v, 'equal') else v == y['optimizer']['state'][i][k]

def test_sigkill_at_random_moments(start, whole, tmp_path):
    "IMAGENET_NB_KILLS kills (10 where it is not set), many of them within a save, since the state is saved at every step"
    todo,kills,rng,i = int(os.environ.get('IMAGENET_NB_KILLS', 10)),0,random.Random(0),0
    while kills < todo:
        d,i = tmp_path/f'{i}',i+1
        d.mkdir()
        for _ in range(min(20, todo-kills)):
            p = start(d, '--resume-from', 'run', '--checkpoint-minutes', '0.0001')
            p.join(rng.uniform(.3, 3.5))
            if p.exitcode is not None: break # it got through before the kill
            p.kill(); p.join(); kills += 1
        finished(start(d, '--resume-from', 'run', '--checkpoint-minutes', '0.0001'))
        log = (d/'log.txt').read_text()
        assert 'Traceback' not in log and 'damaged' not in log, log[-3000:]
        same(d/'run', whole)
        assert not list((d/'run').glob('.*.tmp')) and not list((d/'run').glob('*_step*'))
    print(f'{kills} kills in {i} runs')

def wide(where, folder=None):
    "In a process of its own: a plain fit of 2 million weights, saved at every step, and slower to write than to train. Without `folder` it notes what each of its states must hold"
    import torch
    from fastai.basics import Callback, CrossEntropyLossFlat, DataLoaders, Learner
    from imagenet_nb.callback.resume import resumable
    from imagenet_nb.data.loader import SeededDL
    os.chdir(where); torch.set_num_threads(1); torch.manual_seed(0)
    x = torch.randn(60, 64)
    dls = DataLoaders(*[SeededDL(list(zip(x, x.argmax(1))), bs=6, shuffle=o, num_workers=0) for o in (True, False)], device='cpu')
    net = torch.nn.Sequential(torch.nn.Linear(64, 16_000), torch.nn.BatchNorm1d(16_000), torch.nn.ReLU(), torch.nn.Linear(16_000, 64))
    learn = Learner(dls, net, loss_func=CrossEntropyLossFlat(), lr=1e-3)
    learn.remove_cbs([o for o in learn.cbs if o.name == 'progress'])
    class Note(Callback):
        order,of = 63,{}
        def note(self, step): self.of[str((self.epoch+(not step), step))] = content(dict(model=net.state_dict(), optimizer=self.opt.state_dict()))
        def after_batch(self):
            if self.training: self.note(self.iter+1)
        def after_epoch(self): self.note(0); Path('moments.json').write_text(json.dumps(self.of))
    with learn.no_logging(): learn.fit(3, cbs=resumable(folder, minutes=0) if folder else Note())

def content(s):
    from imagenet_nb.model.weights import checksum, plain_values
    return checksum(plain_values({k: s[k] for k in ('model', 'optimizer')}))

def test_sigkill_while_a_thread_writes(tmp_path):
    "After each of IMAGENET_NB_KILLS kills (4 where it is not set): every file is whole, and holds the weights and the optimizer of its step, not of those that were trained while it was written"
    from imagenet_nb.folder import saved_states
    def begin(*args): p = warm().Process(target=wide, args=(tmp_path, *args)); p.start(); return p
    finished(begin())
    moments,todo,rng,log,i,newest = json.loads((tmp_path/'moments.json').read_text()),int(os.environ.get('IMAGENET_NB_KILLS', 4)),random.Random(0),dict(kills=0, halves=0, states=0, none=0),0,None
    while log['kills'] < todo:
        if newest is None: i += 1
        folder = tmp_path/f'run{i}'
        p = begin(folder)
        until(lambda: p.exitcode is not None or (states := saved_states(folder)) and next(reversed(states)) != newest or list(folder.glob('.*.tmp')), 'a file')
        p.join(rng.uniform(0, .5))
        if p.exitcode is not None: assert p.exitcode == 0; newest = None; continue # it got through before the kill: another run
        p.kill(); p.join(); log['kills'] += 1
        log['halves'] += bool(list(folder.glob('.*.tmp')))
        states = saved_states(folder)
        for at,f in states.items(): assert content(load_tensors(f)) == moments[str(at)], (at, f); log['states'] += 1
        log['none'] += not states
        assert newest is None or next(reversed(states)) >= newest, (newest, states) # never back behind what was there
        newest = next(reversed(states), None)
    print(log)

@pytest.mark.parametrize('sig, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_loses_nothing(start, whole, tmp_path, sig, code):
    p = start(tmp_path, '--resume-from', 'run', at=(2, 7))
    until((tmp_path/'here').exists, 'step 7 of epoch 2')
    os.kill(p.pid, sig)
    finished(p, code)
    log = (tmp_path/'log.txt').read_text()
    assert 'stopped; the newest state is run/training_state_epoch2_step7.pth; go on with --resume-from run' in log, log
    finished(start(tmp_path, '--resume-from', 'run'))
    assert 'going on from run/training_state_epoch2_step7.pth: epoch 2, after 7 of its steps' in (tmp_path/'log.txt').read_text()
    same(tmp_path/'run', whole)

def test_a_signal_to_the_whole_group(start, whole, tmp_path):
    "As Slurm and a terminal send it: the workers get it, too"
    (tmp_path/'w.json').write_text('{"data_loader": {"num_workers": 2}}')
    p = start(tmp_path, '--resume-from', 'run', '--config', 'w.json', at=(2, 7))
    until((tmp_path/'here').exists, 'step 7 of epoch 2')
    os.killpg(p.pid, signal.SIGTERM)
    finished(p, 143)
    assert 'Traceback' not in (tmp_path/'log.txt').read_text()
    finished(start(tmp_path, '--resume-from', 'run', '--config', 'w.json'))
    same(tmp_path/'run', whole)

def test_the_finder_and_a_signal(start, tmp_path):
    "The rate that was found before the interruption counts after it, too, and nothing else has changed"
    for name in ('whole', 'run'):
        (tmp_path/name).mkdir()
        p = start(tmp_path/name, '--resume-from', 'run', '--lr-finder')
        if name == 'whole': finished(p); continue
        until((tmp_path/name/'run'/'training_state_epoch1.pth').exists, 'the state of epoch 1')
        os.kill(p.pid, signal.SIGTERM); finished(p, 143)
        (tmp_path/name/'run'/'lr_finder_results.json').unlink() # it is in the state as well
        finished(start(tmp_path/name, '--resume-from', 'run', '--lr-finder'))
    same(tmp_path/'run'/'run', tmp_path/'whole'/'run')

def test_max_hours_saves_and_goes_on(start, whole, tmp_path):
    finished(start(tmp_path, '--resume-from', 'run', '--max-hours', str(.1/3600))) # before the first epoch is over
    said = (tmp_path/'log.txt').read_text()
    assert 'stopped: --max-hours' in said and 'no epoch of run is finished yet' in said and 'error' not in said
    [first] = (tmp_path/'run').glob('*.pth') # after as many steps as a tenth of a second allows
    assert first.name.startswith('training_state_epoch1_step')
    finished(start(tmp_path, '--resume-from', 'run', '--max-hours', str(.1/3600)))
    assert f'going on from run/{first.name}' in (tmp_path/'log.txt').read_text()
    assert not (tmp_path/'run'/'training_state_epoch3.pth').exists()
    finished(start(tmp_path, '--resume-from', 'run', '--max-hours', '9'))
    same(tmp_path/'run', whole)

def test_two_runs_into_one_folder(start, tmp_path):
    p = start(tmp_path, '--resume-from', 'run', '--epochs', '50')
    until((tmp_path/'run'/'metrics.json').exists, 'metrics.json')
    before = (tmp_path/'run'/'config.json').read_bytes()
    finished(start(tmp_path, '--resume-from', 'run'), 2)
    assert f'error: run: another process (process {p.pid}) is training into it' in (tmp_path/'log.txt').read_text()
    assert p.is_alive() and (tmp_path/'run'/'config.json').read_bytes() == before
    p.kill(); p.join()

def test_words_of_resuming(call, tmp_path):
    "The specification's chapter: an absent folder, results of the finder kept, the newest run, another run, a finished one, a hostile file"
    small = [*quick[:-1], '2']
    r = call(*small, '--resume-from', 'new', '--lr-finder')
    assert r.returncode == 0 and 'no training state in new' in r.stdout and 'training starts from the beginning, into this folder' in r.stdout, r.stderr
    (tmp_path/'checkpoint_3').mkdir()
    shutil.copy(tmp_path/'new'/'lr_finder_results.json', tmp_path/'checkpoint_3')
    r = call(*small, '--resume', '--lr-finder')
    assert 'no training state in checkpoint_3' in r.stdout and 'saved LR finder results found in checkpoint_3: they are used again' in r.stdout
    r = call('--resume')
    assert r.returncode == 0 and 'nothing to do in checkpoint_3: all 2 epochs are done' in r.stdout, r.stdout+r.stderr
    r = call('--resume', '--batch-size', '64', '--epochs', '3')
    assert r.returncode == 2 and 'checkpoint_3 is another run: --batch-size differs' in r.stderr and '32     64' in r.stderr
    r = call('--resume', '--batch-size', '64', '--epochs', '3', '--override-config')
    assert r.returncode == 0 and '--batch-size: 32 → 64' in r.stdout, r.stderr
    assert json.loads((tmp_path/'checkpoint_3'/'metrics.json').read_text())['config_changes'] == [{'epoch': 3, '--epochs': [2, 3], '--batch-size': [32, 64]}]
    r = call(*small, '--resume', '--checkpoint-dir', 'new', '--epochs', '3') # the newest run is not the one that is named
    assert r.returncode == 0 and 'going on from new/training_state_epoch2.pth: epoch 3' in r.stdout, r.stdout+r.stderr
    import torch
    class Evil:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'owned'),)
    torch.save(dict(model=Evil()), tmp_path/'checkpoint_3'/'evil.pth')
    r = call('--resume-from', 'checkpoint_3/evil.pth')
    assert r.returncode == 2 and 'not a readable checkpoint' in r.stderr and len(r.stderr.splitlines()) == 1 and not (tmp_path/'owned').exists()

def test_another_recipe_past_the_warmup(call, tmp_path):
    "The guide's case: a run without warmup goes on at epoch 3 with a recipe whose warmup ends at 2"
    call('--preset', 'quickstart', '--model', 'wideresnet10-1', '--size', '16', '--epochs', '2', '--checkpoint-dir', 'run')
    (tmp_path/'config.json').write_text(json.dumps(dict(optimizer=dict(initial_lr=.2), scheduler=dict(lr_update='epoch', cosine=dict(T_0=10, eta_min=0., warmup_epochs=2, warmup_start_lr=.001)))))
    r = call('--resume-from', 'run', '--epochs', '4', '--config', 'config.json')
    assert r.returncode == 0, r.stderr
    import math
    lr = json.loads((tmp_path/'run'/'metrics.json').read_text())['learning_rates']
    assert lr[2:] == pytest.approx([.2, .1*(1+math.cos(math.pi/10))])
    r = call('--resume-from', 'run', '--epochs', '4', '--dry-run') # ./config.json alone does not change a saved run
    assert r.returncode == 0

@pytest.fixture
def disk(tmp_path):
    "A disk of 3 MB"
    d = tmp_path/'disk'; d.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', str(d)], capture_output=True).returncode: pytest.skip('mounting a small disk needs root')
    yield d
    subprocess.run(['umount', '-l', str(d)])

def fit(folder, *cbs, **kw):
    from imagenet_nb.config import Config
    from imagenet_nb.run.learner import imagenet_learner
    from imagenet_nb.flags import presets
    learn = imagenet_learner(Config(**presets['quickstart'] | dict(model='wideresnet10-1', size=16, epochs=3) | kw))
    with learn.no_bar(), learn.no_logging(): return learn.fit_config(folder, cbs=list(cbs), resume=True)

def at_epoch(**what):
    from fastai.callback.core import Callback
    class Do(Callback):
        order = 50
        def before_epoch(self):
            self.learn.checkpoints.files.wait() # what the epochs before have saved
            if f := what.get(f'e{self.epoch+1}'): f()
    return Do()

def test_a_full_disk(disk, capsys):
    "In the second epoch the disk is full, in the third there is room again: nothing is lost, and no half file is left"
    def fill():
        with open(disk/'filler', 'wb', buffering=0) as f:
            try:
                while True: f.write(b'x'*4096)
            except OSError: pass
    folder = fit(disk/'run', at_epoch(e2=fill, e3=lambda: (disk/'filler').unlink()), checkpoint_minutes=1e-4)
    err = capsys.readouterr().err
    assert 'training_state_epoch2.pth could not be written (No space left on device); training goes on' in err
    assert len(json.loads((folder/'metrics.json').read_text())['epochs']) == 3
    for p in folder.glob('*.pth'): load_tensors(p)
    assert {1, 3} <= {load_tensors(p)['epoch'] for p in folder.glob('training_state*')} and not list(folder.glob('.*.tmp'))
    with pytest.raises(ValueError, match='the last state of .* could not be written: make room'): fit(folder, at_epoch(e4=fill), epochs=4)
    (disk/'filler').unlink()
    assert len(json.loads((fit(folder, epochs=4)/'metrics.json').read_text())['epochs']) == 4

def test_a_disk_that_becomes_read_only(disk, capsys):
    "A read-only file system lies over the run's folder during the second epoch"
    ro = lambda: subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro,size=1m', 'tmpfs', str(disk/'run')], check=True)
    folder = fit(disk/'run', at_epoch(e2=ro, e3=lambda: subprocess.run(['umount', str(disk/'run')], check=True)))
    assert 'training_state_epoch2.pth could not be written (Read-only file system)' in capsys.readouterr().err
    assert len(json.loads((folder/'metrics.json').read_text())['epochs']) == 3 and load_tensors(folder/'training_state_epoch3.pth')['epoch'] == 3

def test_a_folder_that_is_deleted(tmp_path, capsys):
    folder = fit(tmp_path/'run', at_epoch(e2=lambda: shutil.rmtree(tmp_path/'run')))
    assert 'was deleted; it is made again' in capsys.readouterr().err
    assert len(json.loads((folder/'metrics.json').read_text())['epochs']) == 3 and load_tensors(folder/'training_state_epoch3.pth')['epoch'] == 3

small = [*quick[:-1], '2', '--batch-size', '128']
said = lambda r: r.stdout + r.stderr

def test_a_good_run_says_nothing_on_stderr(call):
    r = call(*small, '--checkpoint-dir', 'run')
    assert (r.returncode, r.stderr) == (0, ''), r.stderr

def test_a_finished_run_mends_its_files(call, tmp_path):
    "Whatever is lost or damaged comes back from the newest state, and it is no mistake to ask"
    call(*small, '--checkpoint-dir', 'run')
    run = tmp_path/'run'; whole = timeless(run); best = load_tensors(run/'best_model.pth')
    for text in ('', '{', '[1,2]', '{"epochs":[1,2],"train_losses":["a"]}'):
        (run/'metrics.json').write_text(text)
        r = call('--resume-from', 'run')
        assert r.returncode == 0 and 'nothing to do in run: all 2 epochs are done' in r.stdout and timeless(run) == whole, said(r)
    for n in ('metrics.json', 'README.md', 'training_curves.png'): (run/n).unlink()
    (run/'best_model.pth').write_bytes(b'zz')
    assert call('--resume-from', 'run').returncode == 0
    assert timeless(run) == whole and {'README.md', 'training_curves.png'} <= {p.name for p in run.iterdir()}
    again = load_tensors(run/'best_model.pth')
    assert again['epoch'] == best['epoch'] and all(v.equal(again['model'][k]) for k,v in best['model'].items())

def test_states_that_are_all_lost(call, tmp_path):
    "The run begins anew, and nothing of the old one is overwritten"
    call(*small, '--checkpoint-dir', 'run')
    run = tmp_path/'run'; old = {n: (run/n).read_bytes() for n in ('best_model.pth', 'metrics.json', 'README.md', 'training_curves.png')}
    for p in run.glob('training_state*'): p.write_bytes(b'x')
    r = call('--resume-from', 'run')
    assert r.returncode == 0 and 'no training state in run can be used any more' in r.stdout and r.stderr.count('the state before it is used') == 1, said(r)
    for n,b in old.items(): assert (run/f'{n}.superseded').read_bytes() == b

def test_which_run_and_which_state(call, tmp_path):
    call(*small)
    (tmp_path/'checkpoint_2').mkdir()
    r = call('--resume', '--epochs', '3')
    assert r.returncode == 0 and 'the newest run here is checkpoint_1; checkpoint_2 is empty' in r.stdout and 'going on from checkpoint_1/training_state_epoch2.pth' in r.stdout, said(r)
    r = call('--resume-from', 'checkpoint_1/training_state_epoch1.pth', '--epochs', '1', '--config', 'checkpoint_1/config.json')
    assert 'nothing to do' in r.stdout and len(timeless(tmp_path/'checkpoint_1')['epochs']) == 3, said(r) # an old state does not rewrite what came after
    r = call('--resume-from', 'checkpoint_1', '--epochs', '4', '--no-mixup')
    assert '--no-mixup: False → True' in r.stdout and timeless(tmp_path/'checkpoint_1')['config_changes'][-1]['--no-mixup'] == [False, True], said(r)

def test_a_state_of_a_plain_fit(call, tmp_path):
    fit_plain(tmp_path/'plain')
    r = call(*small, '--resume-from', 'plain')
    assert r.returncode == 2 and 'a state of a plain fit, not of a run' in r.stderr and len(r.stderr.splitlines()) == 1, said(r)

def fit_plain(folder, *cbs, epochs=2, **kw):
    import torch
    from fastai.basics import CrossEntropyLossFlat, DataLoaders, Learner
    from imagenet_nb.data.loader import SeededDL
    from imagenet_nb.callback.resume import resumable
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    dls = DataLoaders(*[SeededDL(list(zip(x, x.argmax(1))), bs=8, shuffle=o, num_workers=0) for o in (True, False)], device='cpu')
    learn = Learner(dls, torch.nn.Linear(4, 4), loss_func=CrossEntropyLossFlat())
    learn.remove_cbs([o for o in learn.cbs if o.name == 'progress'])
    with learn.no_logging(): learn.fit(epochs, cbs=[*resumable(folder, **kw), *cbs])
    return learn

def slow_plain(folder):
    "In a process of its own: a plain fit that takes a second a step"
    from fastai.callback.core import Callback
    class Slow(Callback):
        def before_batch(self): time.sleep(1)
    fit_plain(folder, Slow(), minutes=0)

def test_two_plain_fits_into_one_folder(tmp_path):
    "The second is refused; a killed one holds nothing, and its half files are swept, but nobody else's"
    p = multiprocessing.get_context('spawn').Process(target=slow_plain, args=(tmp_path/'run',)); p.start()
    until(lambda: list((tmp_path/'run').glob('*.pth')), 'a state')
    with pytest.raises(ValueError, match=f'another process \\(process {p.pid}\\) is training into it'): fit_plain(tmp_path/'run')
    p.kill(); p.join()
    for n in ('metrics.json', 'x'): (tmp_path/'run'/f'.{n}.{p.pid}.tmp').touch()
    fit_plain(tmp_path/'run')
    assert [o.name for o in (tmp_path/'run').glob('.*')] == [f'.x.{p.pid}.tmp']

def test_a_deleted_folder_is_locked_again(start, tmp_path):
    p = start(tmp_path, '--resume-from', 'run', '--epochs', '50', '--checkpoint-minutes', '0.0001')
    until(lambda: list((tmp_path/'run').glob('*.pth')), 'a state')
    shutil.rmtree(tmp_path/'run', ignore_errors=True)
    until(lambda: list((tmp_path/'run').glob('*.pth')), 'a state in the new folder')
    finished(start(tmp_path, '--resume-from', 'run'), 2)
    assert f'another process (process {p.pid}) is training into it' in (tmp_path/'log.txt').read_text() and p.is_alive()
    p.kill(); p.join()

def fails(monkeypatch, *which, name='best_model.pth'):
    "The disk refuses the n-th writes of `name`"
    from imagenet_nb.callback import state
    old,n = state.save_tensors,[0]
    def save(path, state):
        if path.name == name:
            n[0] += 1
            if n[0] in which: raise OSError(28, 'No space left on device')
        old(path, state)
    monkeypatch.setattr(state, 'save_tensors', save)

def test_a_best_model_that_could_not_be_written(tmp_path, monkeypatch, capsys):
    "It is written with the next save, though the model is another one by then; and at the end it is an error"
    whole = fit(tmp_path/'whole', batch_size=128)
    with monkeypatch.context() as m:
        fails(m, 2)
        run = fit(tmp_path/'run', batch_size=128)
    a,b = (load_tensors(o/'best_model.pth') for o in (whole, run))
    assert a['epoch'] == b['epoch'] == 3 and all(v.equal(b['model'][k]) for k,v in a['model'].items())
    with monkeypatch.context() as m:
        fails(m, 3, 4)
        with pytest.raises(ValueError, match='best_model.pth could not be written: make room'): fit(tmp_path/'last', batch_size=128)
    fit(tmp_path/'last', batch_size=128)
    b = load_tensors(tmp_path/'last'/'best_model.pth')
    assert all(v.equal(b['model'][k]) for k,v in a['model'].items())
    with monkeypatch.context() as m: # the best fits onto the disk, the state does not
        fails(m, 1, name='training_state_epoch3.pth')
        with pytest.raises(ValueError, match='the last state of .* could not be written'): fit(tmp_path/'state', batch_size=128)

def slow_disk(monkeypatch, seconds=.3):
    "Every file takes its time; gives the list of those that are written"
    from imagenet_nb.callback import state
    old,done = state.save_tensors,[]
    def save(path, what):
        time.sleep(seconds); old(path, what); done.append(path.name)
    monkeypatch.setattr(state, 'save_tensors', save)
    return done

def at_step(n, what):
    from fastai.callback.core import Callback
    class Do(Callback):
        run_valid,order = False,70
        def after_batch(self):
            if self.train_iter == n: what()
    return Do()

def fail(): raise RuntimeError('of a callback')

@pytest.mark.parametrize('what, error, newest', [(lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt, 'training_state_epoch2_step8.pth'), (fail, RuntimeError, 'training_state_epoch1.pth'), (None, None, 'training_state_epoch3.pth')],
                         ids=['stopped', 'an error', 'finished'])
def test_whoever_asks_waits(tmp_path, monkeypatch, capsys, what, error, newest):
    "On a slow disk: when the fit is over, however it ended, all that was asked for is there, nobody holds the folder, and the line that names a state is true"
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = slow_disk(monkeypatch)
    try:
        if error is None: fit(tmp_path/'run', batch_size=128)
        else:
            with pytest.raises(error): fit(tmp_path/'run', at_step(19, what), batch_size=128)
    finally: signal.signal(signal.SIGINT, old)
    there = sorted(p.name for p in (tmp_path/'run').glob('*.pth'))
    assert newest in there and newest in done and 'best_model.pth' in there and set(done) == set(there), (done, there)
    assert not list((tmp_path/'run').glob('.*')), 'a lock, or half a file'
    if error is KeyboardInterrupt: assert f'the newest state is {tmp_path}/run/{newest}' in capsys.readouterr().out
    for n in there: load_tensors(tmp_path/'run'/n)

def test_a_run_whose_states_are_written_late(tmp_path, monkeypatch):
    "Files, history included, are the same whether the disk is slow or training waits for it: a slow one changes nothing in them"
    from fastai.callback.core import Callback
    class Wait(Callback):
        order = 65 # after `Checkpoints`
        def after_epoch(self): self.learn.checkpoints.files.wait()
    a = fit(tmp_path/'a', Wait(), batch_size=128)
    done = slow_disk(monkeypatch)
    b = fit(tmp_path/'b', batch_size=128)
    assert done[0] == 'training_state_epoch1.pth' and done[1] == 'best_model.pth' # the state first
    for n in ('training_state_epoch1.pth', 'training_state_epoch2.pth', 'training_state_epoch3.pth', 'best_model.pth'):
        x,y = (load_tensors(o/n) for o in (a, b))
        for s in (x, y):
            for k in time_keys: s.get('history', {}).pop(k, None)
            s.get('callbacks', {}).pop('recorder', None) # it counts seconds
        assert content(x | dict(optimizer=x.get('optimizer'))) == content(y | dict(optimizer=y.get('optimizer'))), n
        assert {k: v for k,v in x.items() if k not in ('model', 'optimizer', 'meters', 'grads')} == {k: v for k,v in y.items() if k not in ('model', 'optimizer', 'meters', 'grads')}, n
        assert content(dict(model=x.get('meters'), optimizer=x.get('grads'))) == content(dict(model=y.get('meters'), optimizer=y.get('grads'))), n

def test_a_full_disk_when_going_on(disk):
    "Nothing is lost: the line says what to do, and with room again the run goes on from where it was told to"
    fit(disk/'run', epochs=2)
    def fill():
        with open(disk/'filler', 'wb', buffering=0) as f:
            try:
                while True: f.write(b'x'*4096)
            except OSError: pass
    fill()
    best = (disk/'run'/'best_model.pth').read_bytes()
    with pytest.raises(ValueError, match='cannot be written to'): fit_from(disk/'run'/'training_state_epoch1.pth')
    assert (disk/'run'/'best_model.pth').read_bytes() == best and not list((disk/'run').glob('*.superseded'))
    (disk/'filler').unlink()
    fit_from(disk/'run'/'training_state_epoch1.pth')
    assert len(timeless(disk/'run')['epochs']) == 2 and best in [p.read_bytes() for p in (disk/'run').glob('best_model*')]

def fit_from(state):
    from imagenet_nb.config import Config
    from imagenet_nb.run.learner import imagenet_learner
    from imagenet_nb.flags import presets
    learn = imagenet_learner(Config(**presets['quickstart'] | dict(model='wideresnet10-1', size=16, epochs=2)))
    with learn.no_bar(), learn.no_logging(): return learn.fit_config(resume=state)

def test_a_loss_that_explodes(call, tmp_path):
    "No state of weights that are no numbers is written, and what is named is a good one"
    (tmp_path/'n.json').write_text('{"optimizer": {"initial_lr": 1e30}}')
    r = call(*small, '--config', 'n.json', '--no-mixup', '--checkpoint-minutes', '0.0001', '--checkpoint-dir', 'run')
    import torch
    states = [load_tensors(p) for p in (tmp_path/'run').glob('*.pth')]
    assert r.returncode == 2 and all(bool(torch.isfinite(v.float()).all()) for s in states for v in s['model'].values()), said(r)
    named = next(w for w in r.stderr.splitlines()[-1].split() if w.startswith('run/training_state'))
    assert (tmp_path/named.rstrip(':;,')).exists()

def test_another_seed_within_an_epoch(start, tmp_path):
    p = start(tmp_path, '--resume-from', 'run', at=(2, 7))
    until((tmp_path/'here').exists, 'step 7 of epoch 2')
    os.kill(p.pid, signal.SIGTERM); finished(p, 143)
    finished(start(tmp_path, '--resume-from', 'run', '--seed', '7', '--override-config'))
    log = (tmp_path/'log.txt').read_text()
    assert 'stands within an epoch of other batches (seed 42 → 7)' in log and 'going on from run/training_state_epoch1.pth: epoch 2\n' in log, log

def test_a_broken_image_before_training(call, tmp_path):
    "The sheet of samples and the LR finder meet it first"
    from test_mistakes import tree
    data = tree(tmp_path/'data', n=(8, 4))
    for p in (data/'train').rglob('1.JPEG'): p.write_bytes(p.read_bytes()[:200])
    r = call('--dataset', 'imagenet', '--data-dir', data, '--model', 'timm/resnet10t', '--size', '32', '--batch-size', '4', '--epochs', '1', '--max-bad-files', '0.2',
             '--lr-finder', '--visualize-samples', '--checkpoint-dir', 'run')
    assert r.returncode == 0 and (tmp_path/'run'/'sample_images.png').exists() and (tmp_path/'run'/'bad_files.txt').exists(), said(r)

def test_the_averaged_weights_are_tested_and_saved(tmp_path):
    "The best model is the one that was tested; a stop in the middle of a test saves the weights that training goes on with"
    from fastai.callback.core import Callback
    from imagenet_nb.config import Config
    from imagenet_nb.flags import presets
    from imagenet_nb.run.learner import imagenet_learner, load_model
    class Stop(Callback):
        def before_batch(self):
            if not self.training and self.epoch == 0: self.learn.signals.caught = signal.SIGTERM
    def learner(): return imagenet_learner(Config(**presets['quickstart'] | dict(model='wideresnet10-1', size=16, epochs=2, T_0=2, batch_size=64, num_workers=0, ema=.9, device='cpu')))
    whole = learner(); whole.fit_config(tmp_path/'whole')
    h = json.loads((tmp_path/'whole'/'metrics.json').read_text())
    model,_ = load_model(tmp_path/'whole')
    (tmp_path/'whole'/'best_model.pth').unlink()
    learner().fit_config(tmp_path/'whole', resume=True) # mends it from the state of that epoch
    mended,_ = load_model(tmp_path/'whole')
    for a,b in zip(model.state_dict().values(), mended.state_dict().values()): assert torch.equal(a, b)
    again = learner(); again.remove_cb(again.model_ema); again.model.load_state_dict(model.state_dict())
    assert 100*again.validate()[1] == pytest.approx(h['best_test_accuracy'], abs=1e-6)
    with pytest.raises(SystemExit): learner().fit_config(tmp_path/'stopped', cbs=Stop())
    assert any(p.name.endswith(f'epoch1_step{len(whole.dls.train)}.pth') for p in (tmp_path/'stopped').glob('*.pth'))
    later = learner(); later.fit_config(tmp_path/'stopped', resume=True)
    for a,b in zip(whole.model.state_dict().values(), later.model.state_dict().values()): assert torch.equal(a, b)
    for a,b in zip(whole.model_ema.average, later.model_ema.average): assert torch.equal(a, b)
    assert json.loads((tmp_path/'stopped'/'metrics.json').read_text())['test_accuracies'] == h['test_accuracies']
