"""The quickstart, as `make demo` runs it. Writes bench/results/digits.json.

    python bench/digits.py
"""
import tempfile
from common import run_result, save_result
from imagenet_nb.all import Config, imagenet_learner, presets

cfg = Config(**presets['quickstart'])
learn = imagenet_learner(cfg)
save_result('digits', run_result(learn.fit_config(tempfile.mkdtemp()), cfg, len(learn.dls.valid_ds)))
