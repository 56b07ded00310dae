"""Corpora of sentence pairs: numbers in words against another library, files that are not what they should be."""

import re
import unicodedata

import pytest

from demos.translation import train
from demos.translation.analysis import data
from demos.translation.corpora import load, toy


def options(*argv):
    chosen = train.COMMAND.choose(list(argv))
    chosen.vocabulary_size = chosen.vocabulary_size or 60
    return chosen


def write(folder, **lines):
    """TSV files of three splits, some of them with other lines."""
    for split in ("train", "dev", "test"):
        rows = lines.get(split, ["one cat\teine Katze", "two dogs\tzwei Hunde", "a tree\tein Baum"])
        content = rows if isinstance(rows, bytes) else "\n".join(rows).encode()
        (folder / f"{split}.tsv").write_bytes(content)
    return ("--corpus", "tsv", "--data-dir", str(folder))


def test_numbers_are_written_as_they_should_be(rng):
    num2words = pytest.importorskip("num2words").num2words
    for number in [*range(250), *map(int, rng.integers(250, 10**6, 800))]:
        assert toy.english(number) == num2words(number, lang="en")
        thousands = number // 1000
        if thousands % 100 != 1 or thousands == 1:  # it has hunderteinstausend for hunderteintausend
            assert toy.german(number) == num2words(number, lang="de")
    assert toy.german(701_001) == "siebenhunderteintausendeins"


def test_no_number_is_in_two_splits():
    corpus = toy.load()
    sources = [set(pairs.sources) for pairs in corpus.splits.values()]
    assert sum(map(len, sources)) == len(set.union(*sources)) == sum(toy.SIZES.values())
    assert corpus.fingerprint == toy.load().fingerprint


@pytest.mark.parametrize("train_pairs", [7, 50_000])
def test_any_number_of_numbers_can_be_trained_on(train_pairs):
    usual, corpus = toy.load().splits, load(options("--train-pairs", str(train_pairs))).splits
    assert (corpus["dev"], corpus["test"]) == (usual["dev"], usual["test"])
    train, most = corpus["train"].sources, min(train_pairs, len(usual["train"].sources))
    assert len(train) == len(corpus["train"].targets) == train_pairs
    assert train[:most] == usual["train"].sources[:most]
    assert set(train).isdisjoint({*corpus["dev"].sources, *corpus["test"].sources})
    with pytest.raises(ValueError, match=r"--train-pairs is not an argument of --corpus tsv."):
        options("--corpus", "tsv", "--train-pairs", "7").settle("corpus")


@pytest.fixture
def captions(tmp_path):
    """A folder in which Multi30k lies."""
    folder = tmp_path / "multi30k"
    folder.mkdir()
    for stem in ("train", "val", "test_2016_flickr"):
        (folder / f"{stem}.en").write_text("A man.\nTwo  men.\n", encoding="utf-8")
        (folder / f"{stem}.de").write_bytes("Ein Mann.\r\nZwei Männer.".encode("utf-8-sig"))
    return folder


def test_multi30k_is_read_and_reversed(captions, monkeypatch):
    where = ("--corpus", "multi30k", "--data-dir", str(captions))
    corpus = load(options(*where))
    assert corpus.splits["dev"].sources == ["A man.", "Two men."]
    assert corpus.splits["test"].targets == ["Ein Mann.", "Zwei Männer."]
    assert load(options(*where, "--reverse")).splits["test"].sources == ["Ein Mann.", "Zwei Männer."]
    chosen = options(*where[:2])
    monkeypatch.setenv("KERAS_LS_DATA", str(captions.parent))
    assert load(chosen).fingerprint == corpus.fingerprint
    assert chosen.data_dir == str(captions)  # where later commands look, whatever the variable says then
    (captions / "val.de").write_text("Ein Mann.\n\nKein Mann.")
    with pytest.raises(ValueError, match=r"val.en and .de must have as many lines. Received: 2 and 3."):
        load(options(*where))
    (captions / "val.de").write_text("\nKein Mann.")
    with pytest.raises(ValueError, match=r"val.en and .de line 1 has an empty side. --skip-bad"):
        load(options(*where))


def test_a_lone_carriage_return_ends_no_line(captions):
    for language, text in (("en", b"a\rb\r\nc\r\n"), ("de", b"x\r\ny\rz\r\n")):
        (captions / f"train.{language}").write_bytes(text)
    train = load(options("--corpus", "multi30k", "--data-dir", str(captions))).splits["train"]
    assert (train.sources, train.targets) == (["a b", "c"], ["x", "y z"])


def test_multi30k_is_looked_for_where_it_may_be(captions, tmp_path, monkeypatch):
    named = load(options("--corpus", "multi30k", "--data-dir", str(tmp_path)))
    monkeypatch.setenv("KERAS_LS_DATA", str(tmp_path))
    assert load(options("--corpus", "multi30k")).fingerprint == named.fingerprint
    (captions / "train.de").unlink()
    with pytest.raises(ValueError, match=r"holds no train.de of multi30k: unpack train.en.gz, .* from https://"):
        load(options("--corpus", "multi30k", "--data-dir", str(tmp_path)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (["a\tb", "no tab"], r"train.tsv line 2 has 0 tabs instead of one. --skip-bad leaves such lines out."),
        (["a\tb\tc", "d\te"], r"train.tsv line 1 has 2 tabs"),
        (["a\tb", " \te", "\t"], r"line 2 has an empty side. \(2 lines are bad\)"),
        (b"a\tb\nc\t\xff\n", r"train.tsv line 2 is not UTF-8"),
        (b"", r"train.tsv has no pair of sentences"),
    ],
)
def test_bad_lines_are_named(bad, message, tmp_path):
    where = write(tmp_path, train=bad)
    with pytest.raises(ValueError, match=message):
        load(options(*where))
    if not isinstance(bad, bytes):
        corpus = load(options(*where, "--skip-bad"))
        assert len(corpus.splits["train"].sources) == sum(
            len(list(filter(str.strip, line.split("\t")))) == 2 for line in bad
        )


def test_characters_are_composed_and_marks_of_spaces_are_spaces(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Mädchen läuft")
    where = write(tmp_path, train=[f"▁a ▁girl\0runs\t {decomposed} ", "a\tb", "▁\tb"])
    with pytest.raises(ValueError, match="line 3 has an empty side"):
        load(options(*where))
    train = load(options(*where, "--skip-bad")).splits["train"]
    assert (train.sources[0], train.targets[0]) == ("a girl runs", "Mädchen läuft")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"needs --data-dir"):
        load(options("--corpus", "tsv"))
    with pytest.raises(ValueError, match=r"train.tsv cannot be read: No such file"):
        load(options("--corpus", "tsv", "--data-dir", str(tmp_path)))
    with pytest.raises(ValueError, match=r"--data-dir is for --corpus multi30k or tsv"):
        load(options("--data-dir", str(tmp_path)))


def test_long_pairs_are_left_out_and_unknown_characters_are_read(tmp_path):
    pytest.importorskip("sentencepiece")
    where = write(tmp_path, train=["one cat\teine Katze"] * 5 + ["a " * 60 + "\tb"], test=["日本\teine Katze"])
    found = data.load(options(*where, "--max-tokens", "30"))
    assert len(found.splits["train"].references) == 5
    assert found.skipped["train"] == [f"{tmp_path / 'train.tsv'} line 6 has more than 30 tokens with the end token."]
    assert 2 in found.splits["test"].source_ids[0]
    with pytest.raises(ValueError, match=r"--max-tokens leaves no pair of the train split: the shortest has"):
        data.load(options(*where, "--max-tokens", "1"))


def test_sentences_too_long_to_measure_are_refused_or_left_out(tmp_path, monkeypatch):
    pytest.importorskip("sentencepiece")
    where = write(tmp_path, dev=["one cat\teine Katze", "a " * 60 + "\tb"], test=["one cat\teine Katze"])
    assert len(data.load(options(*where)).splits["dev"].references) == 2
    monkeypatch.setattr(data, "MOST_MEASURED", 50)
    problem = f"{tmp_path / 'dev.tsv'} line 2 has more than 50 tokens with the end token."
    with pytest.raises(ValueError, match=f"^{re.escape(problem)} --skip-bad leaves such lines out.$"):
        data.load(options(*where))
    found = data.load(options(*where, "--skip-bad"))
    assert found.splits["dev"].references == ["eine Katze"]
    assert found.skipped["dev"] == [problem]
    monkeypatch.setattr(data, "MOST_MEASURED", 1)
    with pytest.raises(ValueError, match=r"The limit of 1 tokens leaves no pair of the dev split"):
        data.load(options(*where, "--skip-bad"))


def test_batches_depend_on_seed_and_step_alone_and_hold_every_pair(tmp_path):
    pytest.importorskip("sentencepiece")
    rows = [f"{'cat ' * (i % 9 + 1)}{i}\t{'Katze ' * (i % 7 + 1)}{i}" for i in range(100)]
    train = data.load(options(*write(tmp_path, train=rows))).splits["train"]
    plan = data.training_plan(train, 200, seed=3, epoch=0)
    assert {int(row) for bucket in plan for row in bucket.rows} == set(range(100))
    assert all(len(bucket.rows) * max(bucket.inputs, bucket.tokens) <= 200 for bucket in plan)
    assert len({(len(bucket.rows), bucket.inputs, bucket.tokens) for bucket in plan}) <= data.NUM_BUCKETS
    later = iter(data.training_batches(train, 200, 3, first_step=len(plan) + 2))
    expected = train.batch(data.training_plan(train, 200, 3, 1)[2])
    for found, wanted in zip(next(later)[0].values(), expected[0].values(), strict=True):
        assert (found == wanted).all() if isinstance(found, type(wanted)) else (found.numpy() == wanted).all()
