"The scale of ImageNet in small: 20,000 files, two workers. `bench/scale.py` does it in full."
import sys
import pytest
from conftest import root
sys.path.insert(0, str(root/'bench'))

@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='proportional memory is read from /proc')
def test_workers_do_not_grow(tmp_path):
    from scale import growth, make_tree
    from imagenet_nb.data.layout import list_tree, open_tree
    make_tree(tmp_path/'data', 20000, 1000, 100)
    t = open_tree(tmp_path/'data', tmp_path/'cache')
    again = open_tree(tmp_path/'data', tmp_path/'cache')
    assert (t.files == again.files).all() and (t.labels == list_tree(tmp_path/'data').labels).all() and len(t.files) == 21000
    first,last = growth(t, 2, bs=16)
    assert last < 1.05*first, (first, last)
