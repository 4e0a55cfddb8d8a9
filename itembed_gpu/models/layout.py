"""Where items lie on a map: points of the plane, by the angles between vectors."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, Float64Array, Int64Array
from ..errors import MissingExtraError

# How many items a point of the map counts as its neighbours, about.
PERPLEXITY = 15
SEED = 0


def missing(library: str, extra: str) -> MissingExtraError:
    return MissingExtraError(f'maps need {library}: pip install "itembed_gpu[{extra}]"')


def check_t_sne() -> None:
    """Find out before minutes of work whether `lay_out` has what it needs."""
    try:
        import openTSNE  # noqa: F401
    except ImportError as error:
        raise missing("openTSNE", "map") from error


def principal_plane(values: Float64Array) -> npt.NDArray[np.float32]:
    """Return the first two principal components, (n, 2), as small as t-SNE wants to start from."""
    left, sizes, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    plane = np.zeros((len(values), 2))
    # Vectors of length 1 have one component.
    plane[:, : sizes[:2].size] = left[:, :2] * sizes[:2]
    # Their signs are left open: the same everywhere, so that maps are alike.
    extreme = plane[np.abs(plane).argmax(axis=0), [0, 1]]
    plane *= np.where(extreme < 0, -1, 1)
    spread = plane[:, 0].std()
    return (plane * (1e-4 / spread if spread > 0 else 0)).astype(np.float32)


def lay_out(unit: Float32Array, rows: Int64Array, cosines: Float32Array) -> Float64Array:
    """Return points, (n, 2), for unit vectors, (n, D), whose nearest neighbours are known.

    It is t-SNE by interpolation (Linderman et al., "Fast interpolation-based t-SNE for improved
    visualization of single-cell RNA-seq data", 2019), in time proportional to n; scikit-learn's
    takes n log n, and many times as long for 100,000 items.

    Parameters
    ----------
    unit : float32 (n, D)
    rows : int64 (n, k)
        The nearest of each, best first.
    cosines : float32 (n, k)
        What their cosines are.
    """
    check_t_sne()
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors
    from threadpoolctl import threadpool_limits

    # Between unit vectors, as far as float32 tells them apart.
    distances = np.sqrt(np.maximum(0, 2 - 2 * cosines.astype(np.float64)))
    # One thread adds up in the same order everywhere, and waits for no other.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        affinities = PerplexityBasedNN(
            perplexity=rows.shape[1] / 3,
            knn_index=PrecomputedNeighbors(rows, distances),
            n_jobs=1,
        )
        start = principal_plane(unit.astype(np.float64))
        placed = TSNE(n_jobs=1, random_state=SEED).fit(affinities=affinities, initialization=start)
    points: Float64Array = np.array(placed, dtype=np.float64)
    return points
