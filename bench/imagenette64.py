"""ResNet-50 from scratch on Imagenette at 64 px, one-cycle with the default rate. Writes bench/results/imagenette64.json.

    python bench/imagenette64.py --data-dir FOLDER [--epochs 10]
"""
import argparse, tempfile
from common import run_result, save_result
from imagenet_nb.all import Config, imagenet_learner

p = argparse.ArgumentParser()
p.add_argument('--data-dir', required=True); p.add_argument('--epochs', type=int, default=10); p.add_argument('--folder')
a = p.parse_args()
cfg = Config(model='resnet50-pytorch', dataset='imagenet', data_dir=a.data_dir, num_classes=10, size=64, epochs=a.epochs, batch_size=64, scheduler='onecycle')
learn = imagenet_learner(cfg)
save_result('imagenette64', run_result(learn.fit_config(a.folder or tempfile.mkdtemp()), cfg, len(learn.dls.valid_ds)))
