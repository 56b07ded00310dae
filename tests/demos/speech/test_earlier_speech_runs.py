"""Runs of the speech demo that an earlier version left go on, are swept over, and transcribe.

Under tests/data/runs/speech is what 4 steps of two networks with 2 units left when the second was interrupted, without
files for TensorBoard. The corpus is made here, and lies elsewhere than it did.
"""

import argparse
import importlib
import json
import pathlib
import shutil
import types

import numpy as np
import pytest
from harness import BACKEND
from speech_files import tone, write_wav

from demos.speech import beam_search, train, transcribe
from demos.speech.analysis import earlier
from demos.speech.corpora import synthetic
from demos.translation import calibration, translate

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="the speech demo needs TensorFlow")
for package in ("soundfile", "librosa", "jiwer"):
    pytest.importorskip(package, reason='the speech demo needs pip install -e ".[speech]"')

RUN = pathlib.Path(__file__).parents[2] / "data" / "runs" / "speech"
TEXTS = {"train": ("ab", "ba", "abba", "b a"), "dev": ("ab", "a b"), "test": ("ba", "ab b")}
ARGUMENTS = (
    "--corpus manifest --units 2 --steps 4 --batch-size 2 --workers 1 --normalisation corpus --no-augment "
    "--beam-width 2 --label-smoothing 0.1 0"
)


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    """Arguments that name the corpus and the place of its features."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["audio,transcript,split"]
    for split, texts in TEXTS.items():
        for i, text in enumerate(texts):
            letters = [tone(0.2, hertz=300 + 200 * (ord(letter) % 7)) for letter in text]
            write_wav(folder / f"{split}{i}.wav", np.concatenate(letters))
            lines.append(f"{split}{i}.wav,{text},{split}")
    (folder / "tiny.csv").write_text("\n".join(lines))
    return ["--data-dir", str(folder / "tiny.csv"), "--cache-dir", str(folder / "cache")]


@pytest.fixture
def out(tmp_path):
    return shutil.copytree(RUN, tmp_path / "out")


def refused(capsys, main, *arguments):
    """Runs a command that must end with one line on standard error; returns it."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.slow
def test_one_network_is_there_and_the_other_goes_on(out, where, monkeypatch):
    monkeypatch.setattr(importlib.import_module("demos.kit.epochs"), "SHORTEST_EPOCH", 2)
    assert train.main([*ARGUMENTS.split(), *where, "--out", str(out), "--resume"]) == 0
    finished = pathlib.PurePath("alpha-0.1", "seed-0", "result.json")
    assert (out / finished).read_text() == (RUN / finished).read_text()
    first, second = json.loads((out / "results.json").read_text())["trials"]
    assert (first["label_smoothing"], second["label_smoothing"]) == (0.1, 0)
    assert [epoch["epoch"] for epoch in second["history"]] == [1, 2]
    assert not list(out.rglob("checkpoint*"))
    # From here on the run knows where its corpus lies.
    sweep = ["--temperatures", "1", "--beam-widths", "1", "--cache-dir", where[-1]]
    assert beam_search.main(["--from", str(out), *sweep]) == 0


def test_a_run_of_sentences_is_read_from_another_directory_and_after_the_file_has_moved(out, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pathlib.Path("lines.en").write_text("a dog runs\n")
    options = argparse.Namespace(data_dir=None, text="lines.en")
    earlier.write_features(out, types.SimpleNamespace(corpus_statistics=None, num_frames=np.array([3])), options)
    monkeypatch.chdir(tmp_path)
    text = earlier.read_options(out).text
    assert synthetic.place(text).read_text() == "a dog runs\n"
    (tmp_path / "data").mkdir()
    pathlib.Path("here/lines.en").rename("data/lines.en")
    monkeypatch.setenv("KERAS_LS_DATA", str(tmp_path / "data"))
    assert synthetic.place(earlier.read_options(out).text).read_text() == "a dog runs\n"
    assert not synthetic.place(text).exists()  # a new run asks for that very file
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    assert synthetic.place("~/lines.en").read_text() == "a dog runs\n"


def test_a_run_of_sentences_behind_a_link_keeps_their_name(out, tmp_path):
    (tmp_path / "ab12").write_text("a dog runs\n")
    (tmp_path / "lines.en").symlink_to("ab12")
    options = argparse.Namespace(data_dir=str(tmp_path / "lines.en"), text=str(tmp_path / "lines.en"))
    earlier.write_features(out, types.SimpleNamespace(corpus_statistics=None, num_frames=np.array([3])), options)
    found = earlier.read_options(out)
    assert [found.data_dir, found.text] == [str(tmp_path / "lines.en")] * 2


def test_its_network_is_swept_over_and_transcribes(out, where, capsys):
    sweep = ["--temperatures", "1", "--beam-widths", "1", "--beam-width", "2"]
    assert beam_search.main(["--from", str(out), *where, *sweep]) == 0
    (found,) = json.loads((out / "beam_search.json").read_text())["trials"]
    theirs = json.loads((RUN / "alpha-0.1" / "seed-0" / "result.json").read_text())
    assert found["temperature"]["nll"] == pytest.approx([theirs["nll"]], rel=1e-4)
    assert found["temperature"]["wer"] == pytest.approx([theirs["beam_wer"]])
    capsys.readouterr()
    assert transcribe.main(["--from", str(out), str(pathlib.Path(where[1]).parent / "test0.wav")]) == 0
    assert set(capsys.readouterr().out.rstrip("\n").split("\t")[2]) <= set("ab ")


@pytest.mark.parametrize("damage", ["", "{", "{}", "null", "[1]", "directory"])
@pytest.mark.parametrize(
    ("name", "main"),
    [
        ("settings.json", beam_search.main),
        ("features.json", transcribe.main),
        ("tokens.json", transcribe.main),
        ("alpha-0.1/seed-0/result.json", transcribe.main),
        ("alpha-0.1/seed-0/model.keras", transcribe.main),
    ],
)
def test_a_damaged_file_is_named(out, where, capsys, name, main, damage):
    (out / name).unlink()
    if damage == "directory":
        (out / name).mkdir()
    else:
        (out / name).write_text(damage)
    given = [where[1]] if main is transcribe.main else where
    assert str(out / name) in refused(capsys, main, "--from", str(out), *given)


@pytest.mark.parametrize(
    ("main", "lacks"), [(translate.main, "dev_beam_bleu, dev_beam_chrf"), (calibration.main, "dev_beam_bleu")]
)
def test_the_demos_of_translation_refuse_it(out, capsys, main, lacks):
    told = refused(capsys, main, "--from", str(out))
    assert f"--from {str(out)!r} is of another demo: its results lack {lacks}." in told


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokens.json", '{"kind": "characters", "characters": "abcdefg"}'),
        ("tokens.json", '{"kind": "subword", "model": "x"}'),
        ("features.json", '{"statistics": [[1.0], [2.0]], "max_frames": 80}'),
    ],
)
def test_files_that_do_not_fit_are_named(out, where, capsys, name, text):
    (out / name).write_text(text)
    assert str(out) in refused(capsys, transcribe.main, "--from", str(out), where[1])
