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
    "callbacks": (
        "EarlyStopping",
        "Evaluator",
    ),
    "classifier": ("SupervisedClassifier",),
    "devices": (
        "BackendInfo",
        "Cuda",
        "available_backends",
    ),
    "embeddings": ("Embeddings",),
    "errors": (
        "DataError",
        "DeviceError",
        "DivergenceError",
        "InputError",
        "ItembedError",
        "MissingExtraError",
        "UnknownLabelError",
    ),
    "example": ("load_example",),
    "item2vec": ("Item2Vec",),
    "itemsets": (
        "Dropped",
        "PackedItemsets",
        "pack_itemsets",
        "prune_itemsets",
    ),
    "lowlevel": (
        "do_step",
        "do_supervised_batch",
        "do_supervised_steps",
        "do_unsupervised_batch",
        "do_unsupervised_steps",
        "expit",
    ),
    "objective": ("Options",),
    "plots": (
        "ItemMap",
        "plot_history",
        "plot_map",
    ),
    "ranking": (
        "pool_rows",
        "top_n",
    ),
    "readers": (
        "ReadItemsets",
        "read_itemsets",
    ),
    "schedule": ("index_batch_stream",),
    "spilling": ("pack_files",),
    "tables": (
        "extend_syn",
        "initialize_syn",
    ),
    "tasks": (
        "CompoundTask",
        "SupervisedTask",
        "Task",
        "UnsupervisedTask",
        "itemset_task",
    ),
    "training": (
        "EpochRecord",
        "History",
        "TrainState",
        "train",
    ),
    "vectors": (
        "norm",
        "normalize",
        "softmax",
    ),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .callbacks import (
        EarlyStopping as EarlyStopping,
    )
    from .callbacks import (
        Evaluator as Evaluator,
    )
    from .classifier import (
        SupervisedClassifier as SupervisedClassifier,
    )
    from .devices import (
        BackendInfo as BackendInfo,
    )
    from .devices import (
        Cuda as Cuda,
    )
    from .devices import (
        available_backends as available_backends,
    )
    from .embeddings import (
        Embeddings as Embeddings,
    )
    from .errors import (
        DataError as DataError,
    )
    from .errors import (
        DeviceError as DeviceError,
    )
    from .errors import (
        DivergenceError as DivergenceError,
    )
    from .errors import (
        InputError as InputError,
    )
    from .errors import (
        ItembedError as ItembedError,
    )
    from .errors import (
        MissingExtraError as MissingExtraError,
    )
    from .errors import (
        UnknownLabelError as UnknownLabelError,
    )
    from .example import (
        load_example as load_example,
    )
    from .item2vec import (
        Item2Vec as Item2Vec,
    )
    from .itemsets import (
        Dropped as Dropped,
    )
    from .itemsets import (
        PackedItemsets as PackedItemsets,
    )
    from .itemsets import (
        pack_itemsets as pack_itemsets,
    )
    from .itemsets import (
        prune_itemsets as prune_itemsets,
    )
    from .lowlevel import (
        do_step as do_step,
    )
    from .lowlevel import (
        do_supervised_batch as do_supervised_batch,
    )
    from .lowlevel import (
        do_supervised_steps as do_supervised_steps,
    )
    from .lowlevel import (
        do_unsupervised_batch as do_unsupervised_batch,
    )
    from .lowlevel import (
        do_unsupervised_steps as do_unsupervised_steps,
    )
    from .lowlevel import (
        expit as expit,
    )
    from .objective import (
        Options as Options,
    )
    from .plots import (
        ItemMap as ItemMap,
    )
    from .plots import (
        plot_history as plot_history,
    )
    from .plots import (
        plot_map as plot_map,
    )
    from .ranking import (
        pool_rows as pool_rows,
    )
    from .ranking import (
        top_n as top_n,
    )
    from .readers import (
        ReadItemsets as ReadItemsets,
    )
    from .readers import (
        read_itemsets as read_itemsets,
    )
    from .schedule import (
        index_batch_stream as index_batch_stream,
    )
    from .spilling import (
        pack_files as pack_files,
    )
    from .tables import (
        extend_syn as extend_syn,
    )
    from .tables import (
        initialize_syn as initialize_syn,
    )
    from .tasks import (
        CompoundTask as CompoundTask,
    )
    from .tasks import (
        SupervisedTask as SupervisedTask,
    )
    from .tasks import (
        Task as Task,
    )
    from .tasks import (
        UnsupervisedTask as UnsupervisedTask,
    )
    from .tasks import (
        itemset_task as itemset_task,
    )
    from .training import (
        EpochRecord as EpochRecord,
    )
    from .training import (
        History as History,
    )
    from .training import (
        TrainState as TrainState,
    )
    from .training import (
        train as train,
    )
    from .vectors import (
        norm as norm,
    )
    from .vectors import (
        normalize as normalize,
    )
    from .vectors import (
        softmax as softmax,
    )


def __getattr__(name: str) -> Any:
    if name == "metrics":  # a module, whose names are too many and too short for up here
        return importlib.import_module(".metrics", __name__)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULE_OF[name]}", __name__)
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
