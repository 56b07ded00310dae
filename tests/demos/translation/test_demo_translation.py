"""The translation demo from its command lines: what it writes, how it goes on, what it measures and translates."""

import itertools
import json
import os
import re
import shutil
import types

import numpy as np
import pytest
from harness import BACKEND, WITHOUT_XLA

from demos import redraw
from demos.kit import checkpoints, measures
from demos.kit.smoothing import directory
from demos.sequence import sweep as sweeps
from demos.sequence.earlier import Trained
from demos.sequence.objective import WarmUpThenInverseSquareRoot
from demos.sequence.search import Hypothesis
from demos.sequence.tokenizers import Subwords
from demos.translation import calibration, objective, train, translate
from demos.translation.analysis import data, scores
from demos.translation.analysis import translate as translate_lines
from demos.translation.corpora.files import Pairs

pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="a search without a compiler is slow")
for package in ("sacrebleu", "sentencepiece"):
    pytest.importorskip(package, reason='the translation demo needs pip install -e ".[translation]"')

WORDS = {"cat": "Katze", "dog": "Hund", "tree": "Baum", "house": "Haus", "red": "rot"}


@pytest.fixture(scope="module", autouse=True)
def little_work():
    """As many resamples as show that a difference is there, and one layer, which compiles in half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "RESAMPLES", 200)
        patch.setitem(objective.SIZES, "tiny", (32, 1, 2))
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sentences of one to three words, in the other order in German."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(1)
    for split, count in (("train", 40), ("dev", 6), ("test", 8)):
        rows = [rng.choice(list(WORDS), rng.integers(1, 4)) for _ in range(count)]
        lines = [f"{' '.join(row)}\t{' '.join(WORDS[word] for word in reversed(row))}" for row in rows]
        (folder / f"{split}.tsv").write_text("\n".join(lines), encoding="utf-8")
    return folder


SMALL = ["--size", "tiny", "--steps", "4", "--batch-tokens", "60", "--vocabulary-size", "40", "--beam-width", "2"]
SMALL += WITHOUT_XLA


def arguments(corpus, out, *more):
    """The command line of a small run."""
    return ["--corpus", "tsv", "--data-dir", str(corpus), "--out", str(out), *SMALL, *more]


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A run of two networks."""
    out = tmp_path_factory.mktemp("runs") / "run"
    argv = arguments(corpus, out, "--label-smoothing", "0", "0.1")
    assert train.main(argv) == 0
    assert train.main([*argv, "--resume"]) == 0
    return out


def history(out):
    """What each epoch of the only network of a run had."""
    (result,) = out.glob("alpha-*/seed-*/result.json")
    return json.loads(result.read_text())["history"]


def test_results_hold_what_the_table_and_the_picture_show(trained, tmp_path):
    results = json.loads((trained / "results.json").read_text())
    assert [row["label_smoothing"] for row in results["summary"]] == [0, 0.1]
    assert results["summary"][0]["beam_bleu"]["mean"] <= 1
    assert results["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert results["signatures"]["bleu_uncased"].startswith("nrefs:1|case:lc|eff:no|tok:13a")
    assert results["signatures"]["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")
    assert len(results["trials"][0]["examples"]) == 8
    assert redraw.main([str(trained / "results.json"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "reliability.png").read_bytes() == (trained / "reliability.png").read_bytes()
    first, second = results["significance"]
    assert first["bleu"]["p"] is None
    assert 0 <= second["bleu"]["p"] <= 1
    assert first["bleu"]["score"] == pytest.approx(100 * results["trials"][0]["beam_bleu"])
    texts = (trained / "alpha-0.1/seed-0/texts.txt").read_text().splitlines()
    assert [example["beam"] for example in results["trials"][1]["examples"]] == texts


def test_tokens_that_a_newer_package_learns_are_refused(trained, corpus, tmp_path, capsys, monkeypatch):
    out = shutil.copytree(trained, tmp_path / "run")
    of_run, entries = (out / "tokens.json").read_text(), Subwords.entries
    again = [*arguments(corpus, out, "--label-smoothing", "0", "0.1"), "--resume"]
    # A file may differ that has the same tokens.
    monkeypatch.setattr(Subwords, "to_json", lambda _: {"kind": "subword", "model": "another"})
    assert train.main(again) == 0
    assert (out / "tokens.json").read_text() == of_run
    count = itertools.count()
    monkeypatch.setattr(Subwords, "entries", lambda self: [*entries(self), ("new", next(count))])
    with pytest.raises(SystemExit):
        train.main(again)
    assert "tokens learned from the corpus are not those of the run" in capsys.readouterr().err
    assert (out / "tokens.json").read_text() == of_run


def test_translations_that_were_cut_off_are_refused(trained, corpus, tmp_path, capsys):
    out = shutil.copytree(trained, tmp_path / "run")
    (out / "alpha-0.1/seed-0/texts.txt").write_text("one\n")
    with pytest.raises(SystemExit):
        train.main([*arguments(corpus, out, "--label-smoothing", "0", "0.1"), "--resume"])
    assert "texts.txt is damaged" in capsys.readouterr().err


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the event files are read by TensorFlow")
def test_tensorboard_has_texts_reliability_and_attention(trained):
    import tensorflow as tf

    (path,) = (trained / "alpha-0.1").rglob("events.out.*")
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(str(path)) for value in event.summary.value}
    assert {"texts", "next-token reliability", "val_chrf", "learning_rate"} <= tags
    assert len([tag for tag in tags if tag.startswith("attention/")]) == 2


@pytest.mark.slow
def test_training_without_all_logits_in_memory_has_the_same_losses(corpus, tmp_path):
    how = ["--label-smoothing", "0.1", "--dropout", "0"]
    for name, more in (("logits", []), ("fused", ["--fused-output"])):
        assert train.main(arguments(corpus, tmp_path / name, *how, *more)) == 0
    losses, fused = ([epoch["loss"] for epoch in history(tmp_path / name)] for name in ("logits", "fused"))
    assert fused == pytest.approx(losses, rel=1e-4)


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not(corpus, tmp_path, monkeypatch):
    how = ["--label-smoothing", "0.1", "--steps", "200"]
    assert train.main(arguments(corpus, tmp_path / "whole", *how)) == 0
    save, calls = checkpoints.save, []

    def killed(*args):
        if calls:
            raise KeyboardInterrupt
        calls.append(args)
        return save(*args)

    monkeypatch.setattr(checkpoints, "save", killed)
    with pytest.raises(SystemExit):
        train.main(arguments(corpus, tmp_path / "killed", *how))
    monkeypatch.setattr(checkpoints, "save", save)
    assert train.main([*arguments(corpus, tmp_path / "killed", *how), "--resume"]) == 0
    ours, expected = history(tmp_path / "killed"), history(tmp_path / "whole")
    assert [epoch["loss"] for epoch in ours] == pytest.approx([epoch["loss"] for epoch in expected], rel=1e-5)


def test_a_difference_that_is_there_is_sure_and_none_is_not(rng):
    references = [" ".join(rng.choice(list("abcdefgh"), 12)) for _ in range(60)]
    noisy = [" ".join(word if rng.random() > 0.3 else "x" for word in text.split()) for text in references]
    translations = [({"T": 1.0}, noisy), ({"T": 2.0}, noisy), ({"T": 3.0}, references)]
    same, better = scores.by_seed({7: translations}, references)[1:]
    assert same["bleu"]["p"] == 1
    assert better["bleu"]["p"] < 0.01
    assert better["bleu"]["score"] == pytest.approx(100)
    pairs = [[[word if rng.random() > 0.3 else "x" for word in text.split()] for text in references] for _ in range(6)]
    alike = {
        seed: [({}, list(map(" ".join, pairs[0]))), ({}, list(map(" ".join, pairs[seed])))] for seed in range(1, 6)
    }
    assert max(row["chrf"]["p"] for row in scores.by_seed(alike, references)[1::2]) > 0.5  # one tail never is
    assert same["bleu"]["half_width"] > better["bleu"]["half_width"]
    assert (better["seed"], better["T"]) == (7, 3.0)
    assert "100.00 ± 0.00" in scores.table([same, better])
    words = [({"T": temperature}, [word] * 60) for temperature, word in ((1.0, "y"), (2.0, "z"))]
    of_other_words = scores.by_seed({7: words}, references)[1]["bleu"]
    assert (of_other_words["score"], of_other_words["p"]) == (0, 1)
    alike = [
        [" ".join([*"abc", "x" if bad else "d", *"efgh"]) for bad in each]
        for each in ([1] * 14 + [0] * 6, [0] * 14 + [1] * 6)
    ]
    twenty = scores.by_seed({7: [({}, alike[0]), ({}, alike[1])]}, ["a b c d e f g h"] * 20)[1]
    assert twenty["bleu"]["p"] == pytest.approx(0.115, abs=0.06)  # P(|S| >= 8) of 20 exchanges, many of which tie
    for differing, least in ((1, 1.0), (3, 0.15)):  # in 1 and 1/4 of the exchanges the difference is as large
        some = [({}, references), ({}, [*noisy[:differing], *references[differing:]])]
        assert scores.by_seed({7: some}, references)[1]["bleu"]["p"] >= least


def test_calibration_sweeps_goes_on_and_draws(trained, tmp_path, capsys, monkeypatch):
    sweep = ["--temperatures", "1", "2", "--beam-widths", "2", "--length-penalties", "1", "--beam-width", "2"]
    argv = ["--from", str(trained), *sweep, "--n-best", "2", "--out", str(tmp_path)]
    whole, swept = sweeps.sweep, []

    def killed(*arguments):
        if swept:
            raise KeyboardInterrupt
        swept.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(sweeps, "sweep", killed)
    with pytest.raises(SystemExit):
        calibration.main(argv)
    (first,) = (json.loads(path.read_text())["trial"] for path in tmp_path.glob("measured/*.json"))
    monkeypatch.setattr(sweeps, "sweep", whole)
    assert calibration.main(argv) == 0
    assert "hard targets, seed 0: measured before" in capsys.readouterr().out
    assert not list(tmp_path.glob("measured/*"))
    results = json.loads((tmp_path / "calibration.json").read_text())
    assert results["evaluation"].startswith(f"All is of the {results['title'].split(', ')[1]}. ")
    trial = results["trials"][0]
    assert {**trial, "texts": first["texts"]} == first
    assert trial["temperature"]["temperature"] == trial["lists"]["temperature"] == [1.0, 2.0]
    for name in ("bleu", "length_ratio"):
        assert trial["length_penalty"][name] == [trial["temperature"][name][0]]
    best = results["significance"][0]
    assert best["bleu"]["score"] == pytest.approx(100 * max(trial["temperature"]["bleu"]))
    assert 0 < trial["lists"]["first_is_best"] <= 1
    assert set(trial["tokens"]["panel"]["labels"]) == set(trial["tokens"]["panel"]["classes"])
    assert results["pictures"][-1] == "next_tokens.png"
    network = json.loads((trained / "results.json").read_text())["trials"][0]
    for name in ("curve", "curve_scaled"):  # as training measured them
        curves = [measures.curve_from_json(each[name]) for each in (trial["next_tokens"], network)]
        np.testing.assert_allclose(*(curve.ece() for curve in curves), rtol=1e-4)
        np.testing.assert_array_equal(*(curve.count.sum() for curve in curves))
    assert all((tmp_path / name).stat().st_size for name in results["pictures"])
    assert len(list((tmp_path / "calibration").glob("events.out.tfevents.*"))) == 1
    assert "length penalty" in (tmp_path / "calibration.txt").read_text()
    with pytest.raises(SystemExit):
        calibration.main(["--from", str(trained), "--tokens", "Katze", "Haus", "Pferd"])
    assert "--tokens must be three tokens that occur" in capsys.readouterr().err


def test_lines_are_translated_in_their_order(trained, capsys, tmp_path, monkeypatch):
    (tmp_path / "text").write_text("red cat\n\ndog 日", encoding="utf-8-sig")
    how = ["--from", str(trained), "--label-smoothing", "0.1", "--beam-width", "2"]
    assert translate.main([str(tmp_path / "text"), *how]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == ""
    assert translate.main([str(tmp_path / "text"), *how, "--json", "--n-best", "2", "--batch-size", "1"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["source"] for row in rows] == ["red cat", "", "dog 日"]
    assert rows[0]["translations"][0]["text"] == lines[0]
    assert len(rows[2]["translations"]) == 2
    (tmp_path / "text").write_text("red▁cat\0\n\nu\u0308\n", encoding="utf-8")
    assert translate.main([str(tmp_path / "text"), *how, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["source"] for row in rows] == ["red cat", "", "ü"]
    assert rows[0]["translations"][0]["text"] == lines[0]
    monkeypatch.setattr(translate_lines, "translate", lambda _, some, __: [[Hypothesis(text, 0.0)] for _, text in some])
    (tmp_path / "text").write_bytes(b"red\n\xff\n")
    with pytest.raises(SystemExit):
        translate.main([str(tmp_path / "text"), *how])
    written = capsys.readouterr()
    assert "line 2 is not UTF-8" in written.err
    assert written.out.count("\n") == 1  # the line before it
    with pytest.raises(SystemExit):
        translate.main(["absent", *how])
    assert "FILE must exist. Received: absent." in capsys.readouterr().err
    (tmp_path / "text").write_text("red cat\ndog\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        translate.main([str(tmp_path / "text"), str(tmp_path), *how])
    written = capsys.readouterr()
    assert "cannot be read: [Errno 21] Is a directory" in written.err
    assert written.out.count("\n") == 2  # all that was read before


def test_standard_input_is_translated_and_long_sentences_are_cut(trained, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(translate_lines, "LONGEST", 40)
    long = " ".join(["red", "cat"] * translate_lines.LONGEST)
    (tmp_path / "text").write_text(f"red cat\n{long}\n", encoding="utf-8")
    how = ["--from", str(trained), "--label-smoothing", "0.1", "--beam-width", "1"]
    before = os.dup(0)
    try:
        with open(tmp_path / "text", "rb") as file:
            os.dup2(file.fileno(), 0)
            assert translate.main(how) == 0
    finally:
        os.dup2(before, 0)
        os.close(before)
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert re.search(
        rf"Note: standard input line \d has \d+ tokens and is cut at {translate_lines.LONGEST - 1}.", printed.err
    )
    assert translate.main([str(tmp_path / "text"), *how]) == 0
    assert capsys.readouterr().out == printed.out


@pytest.mark.slow
def test_half_precision_and_targets_smoothed_by_frequency(corpus, tmp_path):
    how = ["--label-smoothing", "0.1", "--precision", "mixed_bfloat16", "--smoothing-kind", "unigram"]
    assert train.main(arguments(corpus, tmp_path, *how)) == 0
    (network,) = json.loads((tmp_path / "results.json").read_text())["trials"]
    assert 0 < network["nll"] < 2 * np.log(40)
    assert np.isfinite(history(tmp_path)[-1]["loss"])


def test_the_rate_rises_then_falls_with_the_square_root():
    schedule = WarmUpThenInverseSquareRoot(0.1, 4)
    rates = [float(schedule(step)) for step in range(16)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[15] == pytest.approx(0.05)


def test_measures_of_texts_are_those_of_sacrebleu():
    import sacrebleu

    pairs = Pairs(["x", "y"], ["the cat sat on the mat today", "a dog"], [], [])
    split = data.Sentences(pairs, types.SimpleNamespace(encode=lambda text, strict: np.zeros(0, "int32")))
    assert split.text_scores(split.references) == pytest.approx({"bleu": 1, "chrf": 1, "length_ratio": 1})
    texts = ["the cat sat on the mat again", "a cat and a dog"]
    found = split.text_scores(texts)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [split.references]).score / 100)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, [split.references]).score / 100)
    assert found["length_ratio"] == pytest.approx(12 / 9)
    assert split.quality("a dog", 1) == pytest.approx(100)
    assert split.quality("a dog", 0) < 90


def test_of_several_networks_the_best_on_dev_translates(trained, tmp_path, monkeypatch):
    out, loaded = shutil.copytree(trained, tmp_path / "run"), []
    network = types.SimpleNamespace(sources={})
    monkeypatch.setattr(Trained, "load", lambda self, *_: loaded.append(self.label_smoothing) or network)
    # Where BLEU is 0, since sentences are short, chrF tells.
    for measures_of_best in ({"dev_beam_bleu": 0.3}, {"dev_beam_chrf": 0.3}):
        for best in (0.0, 0.1):
            for alpha in (0.0, 0.1):
                path = out / directory(alpha, 0) / "result.json"
                measured = {"dev_beam_bleu": 0.0, "dev_beam_chrf": 0.2, "dev_nll": 1.0 + (alpha == best)}
                measured |= measures_of_best if alpha == best else {}
                path.write_text(json.dumps(json.loads(path.read_text()) | measured))
            translate_lines.plan(translate.COMMAND.choose(["--from", str(out)]))
    assert loaded == [0.0, 0.1, 0.0, 0.1]
