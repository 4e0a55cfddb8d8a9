"""GloVe in NumPy, at float64: its objective, its steps, and counts by brute force."""

import itertools

import numpy as np


class Model:
    """Tables, biases and what Adagrad adds up, of both sides: one, where they are the same."""

    def __init__(self, syn0, syn1, biases=None):
        same = syn1 is syn0
        tables = [np.array(syn, dtype=np.float64) for syn in (syn0, syn1)]
        if biases is None:
            biases = [np.zeros(len(syn)) for syn in tables]
        biases = [np.array(bias, dtype=np.float64) for bias in biases]
        self.tables, self.biases = ([side[0], side[0 if same else 1]] for side in (tables, biases))
        totals = [np.ones_like(array) for array in (*tables, *biases)]
        self.totals, self.bias_totals = (
            [side[0], side[0 if same else 1]] for side in (totals[:2], totals[2:])
        )

    @property
    def arrays(self):
        """In the order of tables, biases, and the accumulators of a task."""
        return [*self.tables, *self.biases, *self.totals, *self.bias_totals]


def weigh(counts, x_max=100.0, exponent=0.75):
    counts = np.asarray(counts, dtype=np.float64)
    return np.where(counts < x_max, (counts / x_max) ** exponent, 1.0)


def objective(model, left, right, counts, **curve):
    """Equation 8 of the paper: the sum over cells."""
    products = np.einsum("nd,nd->n", model.tables[0][left], model.tables[1][right])
    errors = products + model.biases[0][left] + model.biases[1][right] - np.log(counts)
    return float(weigh(counts, **curve) @ errors**2)


def gradients(model, left, right, count, **curve):
    """Those of half a cell's loss: by both rows, and by either bias."""
    u, v = model.tables[0][left].copy(), model.tables[1][right].copy()
    error = u @ v + model.biases[0][left] + model.biases[1][right] - np.log(float(count))
    scaled = weigh(count, **curve) * error
    return scaled * v, scaled * u, scaled


def step(model, left, right, count, rate, **curve):
    """Train one cell by Adagrad: the left side first, where both are one row."""
    of_left, of_right, of_bias = gradients(model, left, right, count, **curve)
    for array, totals, row, gradient in (
        (model.tables[0], model.totals[0], left, of_left),
        (model.tables[1], model.totals[1], right, of_right),
        (model.biases[0], model.bias_totals[0], left, of_bias),
        (model.biases[1], model.bias_totals[1], right, of_bias),
    ):
        totals[row] += gradient**2
        array[row] -= rate * gradient / np.sqrt(totals[row])


def train(model, cells, rate, orders, **curve):
    """Train cells one after the other, in an order for each epoch."""
    for order in orders:
        for left, right, count in zip(*(side[order] for side in cells), strict=True):
            step(model, left, right, count, rate, **curve)


def count_pairs(items, offsets, num_label, weighting, window, symmetric):
    """Counts by looking at every two places of every itemset: a dense matrix."""
    counts = np.zeros((num_label, num_label))
    for start, stop in itertools.pairwise(offsets):
        for p in range(start, stop):
            for q in range(start, stop if symmetric else p):
                distance = abs(p - q)
                if items[p] == items[q] or (window is not None and distance > window):
                    continue
                weights = {
                    "pairs": 1.0, "itemsets": 1 / max(1, stop - start - 1),
                    "distance": 1 / distance,
                }  # fmt: skip
                counts[items[p], items[q]] += weights[weighting]
    return counts
