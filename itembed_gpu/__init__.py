"""Item embeddings from unordered itemsets: itembed 0.5.1, name for name, and more.

The usual path is `pack_itemsets`, `initialize_syn`, `UnsupervisedTask` (or
`SupervisedTask`, `CompoundTask`), `train`, then `Embeddings`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Each name is imported at its first use (PEP 562): Numba alone takes a quarter of
# a second, which `--help` or a reader of saved embeddings need not wait for.
_NAMES = {
    "training.callbacks": "EarlyStopping Evaluator",
    "models.classifier": "SupervisedClassifier",
    "models.doc2vec": "Doc2Vec",
    "backends.devices": "BackendInfo Cuda available_backends",
    "models.embeddings": "Embeddings",
    "errors": (
        "DataError DeviceError DivergenceError InputError ItembedError MissingExtraError "
        "UnknownLabelError"
    ),
    "data.example": "load_example",
    "models.item2vec": "Item2Vec",
    "models.glove": "GloVe",
    "data.itemsets": "Dropped PackedItemsets",
    "data.labelled": "LabelledItemsets read_labelled",
    "data.lists": "pack_itemsets",
    "data.packing": "prune_itemsets",
    "training.co_occurrence": "CoOccurrences co_occurrences",
    "training.glove": "GloveTask",
    "training.lowlevel": (
        "do_step do_supervised_batch do_supervised_steps do_unsupervised_batch "
        "do_unsupervised_steps expit"
    ),
    "objective.options": "Options",
    "models.plots": "ItemMap plot_history plot_map",
    "training.normalization": "log_partition",
    "ranking.top_n": "pool_rows top_n",
    "data.readers": "ReadItemsets read_itemsets",
    "ranking.parts": "PartedTable",
    "objective.schedule": "index_batch_stream",
    "data.out_of_memory": "pack_files",
    "training.tables": "extend_syn initialize_syn",
    "training.tasks": (
        "CompoundTask DocumentTask ListedTask SupervisedTask Task UnsupervisedTask itemset_task"
    ),
    "training.loop": "EpochRecord History TrainState train",
    "ranking.vectors": "norm normalize softmax",
    "models.verify": "Verified verify",
    "data.writers": "write_itemsets",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

# A module is among them, whose names are too many and too short for up here.
__all__ = sorted([*_MODULE_OF, "metrics"])

if TYPE_CHECKING:
    from . import metrics as metrics
    from .backends.devices import (
        BackendInfo as BackendInfo,
        Cuda as Cuda,
        available_backends as available_backends,
    )
    from .data.example import load_example as load_example
    from .data.itemsets import Dropped as Dropped, PackedItemsets as PackedItemsets
    from .data.labelled import (
        LabelledItemsets as LabelledItemsets,
        read_labelled as read_labelled,
    )
    from .data.lists import pack_itemsets as pack_itemsets
    from .data.out_of_memory import pack_files as pack_files
    from .data.packing import prune_itemsets as prune_itemsets
    from .data.readers import ReadItemsets as ReadItemsets, read_itemsets as read_itemsets
    from .data.writers import write_itemsets as write_itemsets
    from .errors import (
        DataError as DataError,
        DeviceError as DeviceError,
        DivergenceError as DivergenceError,
        InputError as InputError,
        ItembedError as ItembedError,
        MissingExtraError as MissingExtraError,
        UnknownLabelError as UnknownLabelError,
    )
    from .models.classifier import SupervisedClassifier as SupervisedClassifier
    from .models.doc2vec import Doc2Vec as Doc2Vec
    from .models.embeddings import Embeddings as Embeddings
    from .models.glove import GloVe as GloVe
    from .models.item2vec import Item2Vec as Item2Vec
    from .models.plots import ItemMap as ItemMap, plot_history as plot_history, plot_map as plot_map
    from .models.verify import Verified as Verified, verify as verify
    from .objective.options import Options as Options
    from .objective.schedule import index_batch_stream as index_batch_stream
    from .ranking.parts import PartedTable as PartedTable
    from .ranking.top_n import pool_rows as pool_rows, top_n as top_n
    from .ranking.vectors import norm as norm, normalize as normalize, softmax as softmax
    from .training.callbacks import EarlyStopping as EarlyStopping, Evaluator as Evaluator
    from .training.co_occurrence import (
        CoOccurrences as CoOccurrences,
        co_occurrences as co_occurrences,
    )
    from .training.glove import GloveTask as GloveTask
    from .training.loop import (
        EpochRecord as EpochRecord,
        History as History,
        TrainState as TrainState,
        train as train,
    )
    from .training.lowlevel import (
        do_step as do_step,
        do_supervised_batch as do_supervised_batch,
        do_supervised_steps as do_supervised_steps,
        do_unsupervised_batch as do_unsupervised_batch,
        do_unsupervised_steps as do_unsupervised_steps,
        expit as expit,
    )
    from .training.normalization import log_partition as log_partition
    from .training.tables import extend_syn as extend_syn, initialize_syn as initialize_syn
    from .training.tasks import (
        CompoundTask as CompoundTask,
        DocumentTask as DocumentTask,
        ListedTask as ListedTask,
        SupervisedTask as SupervisedTask,
        Task as Task,
        UnsupervisedTask as UnsupervisedTask,
        itemset_task as itemset_task,
    )


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module(".metrics", __name__)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULE_OF[name]}", __name__)
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return [*(name for name in globals() if name.startswith("__")), *__all__]
