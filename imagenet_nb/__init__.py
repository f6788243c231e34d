__version__ = "0.1.0"

import warnings
# fastai decorates functions with torch.jit.script, and torch warns of that at every import, with a path of this machine
warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated', FutureWarning)
