"""The page of a diagnosis: self-contained, well-formed, without fixed colours, and honest about what it needs."""

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import keras_ls
from keras_ls.diagnosis import page


class Reader(HTMLParser):
    """Collects ids, links and the text of tables."""

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href"):
                self.links.append(value)
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def diagnosis():
    rng = np.random.default_rng(0)
    z = 3 * rng.normal(size=(400, 80))
    return keras_ls.diagnose_predictions(rng.integers(0, 80, 400), z, num_resamples=5, from_logits=True)


def test_it_needs_nothing_else(diagnosis, tmp_path):
    diagnosis.to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(link.startswith("#") for link in reader.links)
    assert {link[1:] for link in reader.links} <= set(reader.ids)
    assert not re.search(r"url\((?!#)|@import|<script", text)
    body = text[text.index("<body>") :]
    assert not re.search(r"(fill|stroke): ?#", body)
    assert text.count("<svg") == 3
    assert len(set(re.findall(r"stroke: var\(--(first|second|third)\)", body))) == len(diagnosis.ranking) == 3
    for finding in diagnosis.findings:
        assert finding.verdict in text
    accuracy = diagnosis.estimates["accuracy"]
    limits = f"{accuracy.low:.4f} to {accuracy.high:.4f}"
    assert f'<tr><th scope="row">accuracy</th><td>{accuracy.value:.4f}</td><td>{limits}</td></tr>' in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert len(text) < 300_000
    again = tmp_path / "again.html"
    diagnosis.to_html(again)
    assert again.read_text(encoding="utf-8") == text


def test_without_matplotlib_it_says_what_to_install(diagnosis, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        diagnosis.to_html(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_a_path_that_is_none_is_named(diagnosis):
    with pytest.raises(ValueError, match=r"`path` must be the path of a file\. Received: None"):
        diagnosis.to_json(None)


def test_bands_of_chance_are_drawn_of_independent_predictions_alone(tmp_path):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    y, z = rng.integers(0, 4, (60, 5)), rng.normal(size=(60, 5, 4))
    weights = rng.integers(0, 2, 60)
    for labels, logits, weight, has_band in (
        (y[:, 0], z[:, 0], None, True),
        (y[:, 0], z[:, 0], weights, True),
        (y[:, 0], z[:, 0], weights / 2, False),
        (y, z, None, False),
    ):
        found = keras_ls.diagnose_predictions(labels, logits, num_resamples=5, sample_weight=weight, from_logits=True)
        found.to_html(tmp_path / "page.html")
        assert ("by chance" in (tmp_path / "page.html").read_text(encoding="utf-8")) == has_band


def test_diagrams_are_of_predictions_as_given_and_of_the_worst_classes(diagnosis):
    text = page._reliability(diagnosis).get_legend().get_texts()[0].get_text()
    assert text == f"ECE {diagnosis.estimates['ece'].value:.3f}"
    axes, errors = page._classes(diagnosis), diagnosis.class_errors
    assert [bar.get_height() for bar in axes.patches] == np.sort(errors)[::-1][:60].tolist()
    assert axes.get_xticklabels()[0].get_text() == str(errors.argmax())
