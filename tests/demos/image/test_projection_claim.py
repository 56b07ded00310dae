"""The paper's claim on real data: smoothing makes clusters tight and their templates equally distant."""

import json

import pytest

pytest.importorskip("sklearn", reason='the digits need pip install -e ".[demos]"')

from demos.image import projection


@pytest.mark.slow
def test_smoothing_makes_clusters_tight_and_equally_distant(tmp_path):
    """On the training images of the noisy digits, as the demo trains by default, for each of three seeds."""
    assert projection.main(["--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    numbers = {(run["label_smoothing"], run["seed"]): run["statistics"]["training"] for run in results["trials"]}
    assert set(numbers) == {(alpha, seed) for alpha in (0.0, 0.1) for seed in (0, 1, 2)}
    for seed in (0, 1, 2):
        hard, smooth = numbers[0.0, seed], numbers[0.1, seed]
        assert smooth["ratio"] <= hard["ratio"] / 2
        assert smooth["template_distance_cv"] < hard["template_distance_cv"]
        assert smooth["between"] < hard["between"]  # on a smaller scale
