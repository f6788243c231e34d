"The packages we are measured against: they are no requirements of ours, and live in a virtual environment of their own."
import json, os, platform, re, site, subprocess, sys, venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

others = ['albumentations==2.0.8', 'simplejpeg', 'PyTurboJPEG', 'turboloader==2.39.0', 'spdl==0.8.0', 'av', 'ffcv'] # SPDL uses the FFmpeg inside `av`
needs = dict(ffcv='its source asks pkg-config for the headers of OpenCV 4 and libjpeg-turbo')

def installed() -> dict:
    "Which of them are here, and their versions"
    found = {}
    for p in others:
        name = re.split('[=<>]', p)[0]
        try: found[name] = version(name)
        except PackageNotFoundError: pass
    return found

def make_venv(folder):
    "A virtual environment that borrows the packages of this one: its Python, the folder of FFmpeg's libraries, and which package did not come, and why"
    py,absent,libs = folder/'bin'/'python',{},folder/'ffmpeg'
    if not py.exists(): venv.create(folder, with_pip=True)
    own = Path(subprocess.check_output([py, '-c', 'import site; print(site.getsitepackages()[0])'], text=True).strip())
    (own/'borrowed.pth').write_text(site.getsitepackages()[0] + '\n')
    for p in others:
        r = subprocess.run([py, '-m', 'pip', 'install', '-q', '--only-binary=:all:', p], stderr=subprocess.PIPE, text=True)
        if r.returncode: absent[p] = f'no wheel for Python {".".join(platform.python_version_tuple()[:2])} (pip: {r.stderr.strip().splitlines()[-1]})' + (f'; {needs[p]}' if p in needs else '')
    libs.mkdir(exist_ok=True)
    for p in (own/'av.libs').glob('lib*.so.*'): # as they are called there, and as SPDL looks for them: libavutil.so.60
        for n in (p.name, f'{p.name.split("-")[0]}.so.{p.name.split(".so.")[1].split(".")[0]}'):
            if not (libs/n).exists(): (libs/n).symlink_to(p)
    return py,libs,absent

def again(file, folder=None):
    "Run the benchmark `file` once more, with one thread, in the environment `folder` (or in this one); what did not come stands in $ABSENT"
    py,libs,absent = make_venv(Path(folder).resolve()) if folder else (sys.executable, '', {})
    paths = {k: os.pathsep.join(filter(None, [str(v), os.environ.get(k)])) for k,v in dict(PYTHONPATH=Path(__file__).resolve().parent.parent, LD_LIBRARY_PATH=libs).items()}
    return subprocess.run([py, file, *sys.argv[1:]], env=os.environ | paths | dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', PYTHONWARNINGS='ignore', ABSENT=json.dumps(absent))).returncode
