"""Features of the speech demo: against plain loops, and what they do not depend on."""

import sys

import numpy as np
import pytest

from demos.kit.errors import MissingExtra
from demos.speech.sound import features

librosa = pytest.importorskip("librosa", reason="features need librosa")
LENGTHS = [400, 401, 559, 560, 561, 719, 720]


def plain_log_mel(waveform):
    """Log-mel filterbanks by loops in double precision, from the definition of HTK's mel scale (Young et al. 2006)."""
    waveform = np.asarray(waveform, "float64")
    waveform = waveform / np.abs(waveform).max()
    window = [0.5 - 0.5 * np.cos(2 * np.pi * i / 400) for i in range(400)]
    edges = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(_mel(20), _mel(8000), 82)]
    rows = []
    for start in range(0, len(waveform) - 399, 160):
        magnitudes = np.abs(np.fft.rfft(waveform[start : start + 400] * window, 512))
        row = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            total = 0.0
            for k, magnitude in enumerate(magnitudes):
                hertz = k * 16_000 / 512
                if low < hertz <= centre:
                    total += magnitude * (_mel(hertz) - _mel(low)) / (_mel(centre) - _mel(low))
                elif centre < hertz < high:
                    total += magnitude * (_mel(high) - _mel(hertz)) / (_mel(high) - _mel(centre))
            row.append(np.log(max(total, 0.01)))
        rows.append(row)
    return np.array(rows)


def _mel(hertz):
    return 2595 * np.log10(1 + hertz / 700)


def awkward_waveforms():
    """Name and waveform: what is hardest for single precision has energy in one place and none elsewhere."""
    time = np.arange(8000) / 16_000
    rng = np.random.default_rng(4)
    yield "noise", rng.uniform(-1, 1, 8123)
    yield "quiet noise", 1e-4 * rng.uniform(-1, 1, 8123)
    yield "sine", np.sin(2 * np.pi * 1000 * time)
    yield "high sine", 0.01 * np.sin(2 * np.pi * 7613.7 * time)
    yield "impulse", np.eye(1, 8000, 4321)[0]
    yield "square", np.sign(np.sin(2 * np.pi * 200 * time) + 1e-9)
    yield "constant", np.ones(8000)
    yield "alternating", (-1.0) ** np.arange(8000)
    yield "speech-like", np.sin(2 * np.pi * 150 * time) ** 9 * np.exp(-3 * time)


class TestLogMel:
    @pytest.mark.parametrize("length", LENGTHS)
    def test_against_plain_loops_at_the_edges(self, rng, length):
        waveform = rng.uniform(-1, 1, length).astype("float32")
        got = features.log_mel(waveform)
        assert got.shape == (features.num_frames(length), 80)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, plain_log_mel(waveform), atol=1e-4)

    @pytest.mark.parametrize("waveform", [pytest.param(x, id=name) for name, x in awkward_waveforms()])
    def test_against_plain_loops(self, waveform):
        got = features.log_mel(waveform.astype("float32"))
        np.testing.assert_allclose(got, plain_log_mel(waveform.astype("float32")), atol=1e-3)

    def test_silence(self):
        np.testing.assert_allclose(features.log_mel(np.zeros(1000, "float32")), np.log(0.01), rtol=1e-5)

    def test_does_not_depend_on_the_level(self, rng):
        waveform = rng.uniform(-1, 1, 4000).astype("float32")
        np.testing.assert_allclose(features.log_mel(waveform / 256), features.log_mel(waveform), atol=1e-5)

    def test_every_channel_hears_something(self):
        assert (features.mel_matrix().sum(0) > 0).all()

    @pytest.mark.parametrize("shape", [(0,), (399,), (800, 2)])
    def test_refused_shapes(self, shape):
        with pytest.raises(ValueError, match=r"`waveform` must be \(n,\) with n >= 400"):
            features.log_mel(np.ones(shape, "float32"))

    def test_num_frames(self):
        expected = [len(range(0, n - 399, 160)) for n in range(3000)]
        assert [features.num_frames(n) for n in range(3000)] == expected

    def test_missing_package_names_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "librosa", None)
        with pytest.raises(MissingExtra, match=r'needs librosa: pip install -e "\.\[speech\]"'):
            features.log_mel(np.ones(400, "float32"))


class TestNormalise:
    def test_each_channel_of_an_utterance(self, rng):
        x = rng.normal(3, 2, (200, 80)).astype("float32") * np.linspace(0.5, 4, 80, dtype="float32")
        got = features.normalise(x)
        np.testing.assert_allclose(got.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(got.std(0), 1, rtol=1e-4)
        np.testing.assert_allclose(got, (x - x.mean(0)) / x.std(0), atol=1e-4)

    def test_channels_that_do_not_vary_stay_finite(self, rng):
        x = np.full((50, 80), np.log(0.01), "float32")
        np.testing.assert_allclose(features.normalise(x), 0, atol=1e-5)
        x[:, 0] += 0.01 * rng.standard_normal(50)
        assert np.abs(features.normalise(x)).max() < 1
        assert np.isfinite(features.normalise(x[:1])).all()

    def test_by_statistics_of_a_corpus(self, rng):
        x = rng.normal(3, 2, (60, 80)).astype("float32")
        statistics = np.stack([np.full(80, 1.0), np.full(80, 4.0)]).astype("float32")
        np.testing.assert_allclose(features.normalise(x, statistics), (x - 1) / 4, rtol=1e-5)
