"""Item embeddings from unordered itemsets: itembed 0.5.1, name for name, and more.

The usual path is `pack_itemsets`, `initialize_syn`, `UnsupervisedTask` (or
`SupervisedTask`, `CompoundTask`), `train`, then `Embeddings`.
"""

from .devices import BackendInfo, available_backends
from .embeddings import Embeddings
from .errors import (
    DataError,
    DeviceError,
    DivergenceError,
    InputError,
    ItembedError,
    MissingExtraError,
    UnknownLabelError,
)
from .example import load_example
from .itemsets import Dropped, PackedItemsets, pack_itemsets, prune_itemsets
from .lowlevel import (
    do_step,
    do_supervised_batch,
    do_supervised_steps,
    do_unsupervised_batch,
    do_unsupervised_steps,
    expit,
)
from .readers import ReadItemsets, read_itemsets
from .schedule import index_batch_stream
from .tables import initialize_syn
from .tasks import CompoundTask, SupervisedTask, Task, UnsupervisedTask
from .train import EpochRecord, History, TrainState, train
from .vectors import norm, normalize, softmax

__version__ = "0.1.0"

__all__ = [
    "BackendInfo",
    "CompoundTask",
    "DataError",
    "DeviceError",
    "DivergenceError",
    "Dropped",
    "Embeddings",
    "EpochRecord",
    "History",
    "InputError",
    "ItembedError",
    "MissingExtraError",
    "PackedItemsets",
    "ReadItemsets",
    "SupervisedTask",
    "Task",
    "TrainState",
    "UnknownLabelError",
    "UnsupervisedTask",
    "available_backends",
    "do_step",
    "do_supervised_batch",
    "do_supervised_steps",
    "do_unsupervised_batch",
    "do_unsupervised_steps",
    "expit",
    "index_batch_stream",
    "initialize_syn",
    "load_example",
    "norm",
    "normalize",
    "pack_itemsets",
    "prune_itemsets",
    "read_itemsets",
    "softmax",
    "train",
]
