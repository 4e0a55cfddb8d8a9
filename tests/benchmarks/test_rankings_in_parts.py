import numpy as np
import pytest

from benchmarks import datasets, scale


@pytest.mark.parametrize(
    ("parted", "verdict"),
    [
        ([0.200, 0.201, 0.199], "+0.00 % | -1.00 % ✓"),
        ([0.1985, 0.1995, 0.1975], "-0.75 % | -1.00 % ✓"),
        ([0.197, 0.198, 0.196], "-1.50 % | -1.00 % ✗"),
        # Standard errors: of three values .01 apart, sqrt((.001**2 + .01**2) / 3) = .0058.
        ([0.190, 0.200, 0.180], "-5.00 % | -5.80 % ✓"),
        ([0.188, 0.198, 0.178], "-6.00 % | -5.80 % ✗"),
    ],
)
def test_a_ranking_may_lose_a_hundredth_or_two_standard_errors(parted, verdict):
    row = scale.show_rankings("gowalla", [0.2, 0.201, 0.199], parted)
    assert " | ".join(row).endswith(verdict)


def test_rankings_in_parts_are_compared_with_those_without(tmp_path, monkeypatch):
    def pairs_of_neighbours(folder):
        items = np.arange(20)
        baskets = datasets.pack(np.stack([items, (items + 1) % 20], 1).repeat(30, 0).tolist())
        history, truth = ([[item] for item in column] for column in (items, (items + 1) % 20))
        names = [str(item) for item in items]
        return datasets.Ranking("gowalla", baskets, *map(datasets.pack, (history, truth)), names)

    monkeypatch.setattr(datasets, "DATASETS", {"gowalla": pairs_of_neighbours})
    settings = {"learning_rate": 0.3, "num_epoch": 20, "dim": 8, "optimizer": "adagrad"}
    monkeypatch.setattr(scale, "RANKINGS", {"gowalla": ("Recall@20", settings)})
    for name, value in {"JUDGED": 2, "NUM_SEED": 2}.items():
        monkeypatch.setattr(scale, name, value)
    scale.main(["--parts", "rankings", "--data", str(tmp_path), "--out", str(tmp_path)])
    section = scale.read_sections(tmp_path / "scale.md")["Rankings"]
    assert "learning_rate=0.3" in section[0]
    # Of 20 items all are among the first 20.
    assert section[-1].startswith("| gowalla | Recall@20 | 2 | 1.0000 | 1.0000 | +0.00 % |")
    with pytest.raises(SystemExit, match="pass --data"):
        scale.main(["--parts", "rankings", "--out", str(tmp_path)])
