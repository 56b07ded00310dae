"""The speech demo from its command lines: what it writes, how it is resumed, what it refuses, what it transcribes."""

import importlib.util
import json
import pathlib
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from harness import BACKEND, slow

from demos import redraw
from demos.kit import checkpoints, epochs
from demos.kit.smoothing import directory
from demos.sequence import tokenizers
from demos.sequence.earlier import trained_networks
from demos.speech import beam_search, train, transcribe
from demos.speech.analysis import earlier, evaluation
from demos.speech.corpora import feature_cache
from demos.speech.networks import recipe
from demos.speech.networks.recognisers import Recogniser

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="the speech demo needs TensorFlow")
for package in ("soundfile", "librosa", "jiwer"):
    pytest.importorskip(package, reason='the speech demo needs pip install -e ".[speech]"')

ROOT = pathlib.Path(__file__).parents[3]
RATE = 16_000
SMALL = ["--corpus", "manifest", "--units", "8", "--steps", "4", "--batch-size", "6", "--workers", "1"]
if importlib.util.find_spec("tensorflow_io") is None:  # which has no build for the newest Python
    SMALL.append("--no-augment")


def speech(transcript, rng):
    """A tone for each letter, 0.1 s each, with noise."""
    time = np.arange(RATE // 10) / RATE
    tones = [np.sin(2 * np.pi * (200 + 40 * (ord(letter) - 96)) * time) for letter in transcript]
    return (0.3 * np.concatenate(tones) + 0.01 * rng.normal(size=len(time) * len(transcript))).astype("float32")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A manifest of 12 + 4 + 5 recordings; the environment for its features."""
    import soundfile

    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(5)
    lines = ["audio,transcript,split"]
    for split, count in (("train", 12), ("dev", 4), ("test", 5)):
        for i in range(count):
            words = ["".join("abcd"[k] for k in rng.integers(0, 4, 3)) for _ in range(rng.integers(1, 4))]
            transcript = "abcd" if (split, i) == ("train", 0) else " ".join(words)
            soundfile.write(folder / f"{split}{i}.wav", speech(transcript, rng), RATE)
            lines.append(f"{split}{i}.wav,{transcript},{split}")
    (folder / "all.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def run(corpus, tmp_path):
    """Trains in this process; returns results.json."""

    def run(out, *more):
        where = ["--data-dir", str(corpus / "all.csv"), "--cache-dir", str(corpus / "cache"), "--out", str(out)]
        assert train.main([*SMALL, *where, *more]) == 0
        return json.loads((out / "results.json").read_text())

    return run


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """The directory of a run of two models."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    where = ["--data-dir", str(corpus / "all.csv"), "--cache-dir", str(corpus / "cache"), "--out", str(out)]
    assert train.main([*SMALL, *where, "--normalisation", "corpus"]) == 0
    return out


def refused(capsys, main, *given):
    """Runs a command, which must exit with status 2; returns the one line it says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(given))
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def check_redraw(results, again):
    """The pictures of a file of results can be drawn again, from it alone."""
    assert redraw.main([str(results), "--out", str(again)]) == 0
    for name in json.loads(results.read_text())["pictures"]:
        assert (again / name).read_bytes() == (results.parent / name).read_bytes()


def numbers(results):
    """What a run must reproduce, as an array."""
    return np.array([[one[name] for name in evaluation.MEASURES] for one in results["trials"]], "float64")


class TestTrain:
    def test_what_it_writes(self, trained, tmp_path):
        check_redraw(trained / "results.json", tmp_path)
        results = json.loads((trained / "results.json").read_text())
        assert [(one["label_smoothing"], one["seed"]) for one in results["trials"]] == [(0, 0), (0.1, 0)]
        assert results["settings"]["steps"] == 4
        assert results["settings"]["utterances"] == {"train": 12, "dev": 4, "test": 5}
        assert results["best_on_dev"] in (0, 0.1)
        for one in results["trials"]:
            assert np.isfinite([one[name] for name in evaluation.MEASURES]).all()
            assert len(one["examples"]) == 5
            assert one["history"][-1]["epoch"] * results["settings"]["steps_per_epoch"] == 4
            assert {"loss", "ctc_loss", "val_ece", "val_wer"} <= set(one["history"][-1])
            assert one["parameters"] > 0
            folder = trained / directory(one["label_smoothing"], one["seed"])
            assert not list(folder.glob("checkpoint*"))
        assert (trained / "reliability.png").stat().st_size > 1000
        assert "beam 8 WER %" in (trained / "results.txt").read_text()
        assert earlier.read_features(trained)[0].shape == (2, 80)

    def test_tensorboard(self, trained):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(trained / "alpha-0.1" / "seed-0"), size_guidance={"tensors": 0}).Reload()
        tags = set(events.Tags()["tensors"])
        assert {"loss", "learning_rate", "val_wer", "next-token reliability", "attention/0", "texts"} <= tags
        text = events.Tensors("texts")[-1].tensor_proto.string_val[0].decode()
        assert text.startswith("| correct | found |")
        assert len(text.splitlines()) == 2 + 4
        assert events.Tensors("attention/0")[-1].tensor_proto.string_val[2].startswith(b"\x89PNG")

    @pytest.mark.slow
    def test_table_and_last_line(self, run, tmp_path, capsys):
        run(tmp_path / "out", "--label-smoothing", "0.1", "--seeds", "0", "3", "--beam-width", "2")
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == f"tensorboard --logdir {tmp_path / 'out'}"
        assert any("beam 2 WER %" in line for line in lines)
        assert any(line.startswith("0.1 ") and line.count("±") == 10 for line in lines)

    @pytest.mark.parametrize(
        "more",
        [
            slow(
                ["--model", "transformer", "--heads", "2", "--decoder-layers", "1", "--smoothing-kind", "neighbourhood"]
            ),
            slow(["--smoothing-kind", "unigram", "--ctc-weight", "0", "--no-augment", "--precision", "mixed_bfloat16"]),
            slow(["--tokens", "subword", "--vocabulary-size", "20", "--clipnorm", "0", "--warmup-steps", "0"]),
        ],
        ids=["transformer", "unigram", "subword"],
    )
    def test_choices(self, run, tmp_path, more):
        if "subword" in more:
            pytest.importorskip("sentencepiece", reason='subwords need pip install -e ".[speech]"')
        results = run(tmp_path / "out", "--label-smoothing", "0.1", *more)
        assert np.isfinite(numbers(results)).all()
        (trained,) = trained_networks(tmp_path / "out", {})
        known = tokenizers.read(tmp_path / "out" / "tokens.json")
        assert trained.load(Recogniser, known).vocabulary_size == known.size

    @pytest.mark.slow
    def test_a_killed_run_ends_as_one_that_was_not(self, run, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(epochs, "SHORTEST_EPOCH", 2)
        whole = run(tmp_path / "whole")
        saved, save = [], checkpoints.save

        def killed(path, *rest):
            saved.append(path)
            if len(saved) == 4:  # in the second epoch of the second model
                raise KeyboardInterrupt
            save(path, *rest)

        monkeypatch.setattr(checkpoints, "save", killed)
        with pytest.raises(SystemExit) as stopped:
            run(tmp_path / "killed")
        assert stopped.value.code == 130
        assert "--resume" in capsys.readouterr().err
        resumed = run(tmp_path / "killed", "--resume")
        assert len(saved) == 5
        np.testing.assert_allclose(numbers(resumed), numbers(whole), rtol=1e-3, atol=1e-4)
        more = run(tmp_path / "killed", "--resume", "--label-smoothing", "0.1", "--seeds", "1", "0")
        assert len(saved) == 5 + 2
        assert more["trials"][1] == resumed["trials"][1]

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--label-smoothing", "1"], "--label-smoothing: must be in [0, 1). Received: '1'"),
            (["--ctc-weight", "-1"], "--ctc-weight"),
            (["--steps", "0"], "--steps: must be an integer of at least 1"),
            (["--warmup-steps", "-1"], "--warmup-steps"),
            (["--batch-size", "13"], "The batch size must be at most the number of training utterances (12)"),
            (["--heads", "4"], "--heads is for --model transformer alone"),
            (["--model", "transformer", "--units", "20", "--heads", "4"], "--units must be a multiple of 2 · --heads"),
            (["--vocabulary-size", "20"], "--vocabulary-size is for --tokens subword. Received: --tokens characters."),
            (["--snr", "30", "10"], "--snr must be LOW HIGH in dB with"),
            (["--smoothing-kind", "bigram"], "bigram"),
            (["--tokens", "subword", "--vocabulary-size", "4"], "--vocabulary-size must be at least 8"),
        ],
    )
    def test_refused(self, corpus, tmp_path, capsys, more, message):
        out = tmp_path / "out"
        where = ["--data-dir", str(corpus / "all.csv"), "--cache-dir", str(corpus / "cache"), "--out", str(out)]
        assert message in refused(capsys, train.main, *SMALL, *where, *more)
        assert not out.exists()

    @pytest.mark.slow
    def test_characters_never_seen(self, corpus, tmp_path, capsys, run):
        manifest = corpus / "strange.csv"
        manifest.write_text((corpus / "all.csv").read_text().replace("test2.wav,", "test2.wav,x"))
        where = ["--data-dir", str(manifest), "--cache-dir", str(corpus / "cache"), "--out", str(tmp_path / "out")]
        line = refused(capsys, train.main, *SMALL, *where)
        assert "test2.wav" in line
        assert "'x'" in line
        assert "--skip-bad" in line
        results = run(tmp_path / "out", "--data-dir", str(manifest), "--skip-bad", "--label-smoothing", "0")
        assert results["settings"]["utterances"]["test"] == 4
        assert "test2.wav" in results["skipped"]["test"][0]

    def test_other_settings_are_refused(self, trained, corpus, capsys):
        where = ["--data-dir", str(corpus / "all.csv"), "--cache-dir", str(corpus / "cache"), "--out", str(trained)]
        line = refused(capsys, train.main, *SMALL, *where, "--normalisation", "corpus", "--resume", "--dropout", "0.5")
        assert "dropout was" in line

    def test_missing_package(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "jiwer", None)
        line = refused(capsys, train.main, *SMALL, "--out", str(tmp_path / "out"))
        assert 'pip install -e ".[speech]"' in line

    def test_quick_fills_in_what_was_not_given(self):
        options = train.COMMAND.choose(["--quick", "--steps", "7"])
        recipe.settle(options)
        assert options.steps == 7
        assert options.train_sentences == recipe.QUICK["train_sentences"]

        options = train.COMMAND.choose(["--quick", "--corpus", "manifest"])
        recipe.settle(options)
        assert (options.train_sentences, options.steps) == (None, recipe.QUICK["steps"])

    @pytest.mark.slow
    def test_divergence_in_the_last_step(self, corpus, tmp_path, capsys):
        where = ["--data-dir", str(corpus / "all.csv"), "--cache-dir", str(corpus / "cache"), "--out", str(tmp_path)]
        rate = ["--learning-rate", "1e30", "--steps", "1", "--warmup-steps", "0", "--clipnorm", "0"]
        with pytest.raises(SystemExit) as stopped:
            train.main([*SMALL, *where, *rate])
        assert stopped.value.code == 1
        assert "lower the learning rate" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["result.json", "checkpoint.npz"])
    def test_a_damaged_file_of_the_run_is_named(self, trained, corpus, tmp_path, capsys, name):
        out = tmp_path / "copy"
        shutil.copytree(trained, out)
        (folder,) = out.glob("alpha-0.0/seed-0")
        (folder / "result.json").unlink()
        (folder / name).write_text("{")
        where = ["--data-dir", str(corpus / "all.csv"), "--cache-dir", str(corpus / "cache"), "--out", str(out)]
        with pytest.raises(SystemExit) as stopped:
            train.main([*SMALL, *where, "--normalisation", "corpus", "--resume"])
        assert stopped.value.code == 1
        assert f"{name} is damaged" in capsys.readouterr().err

    def test_interrupted_while_features_are_made(self, corpus, tmp_path, capsys, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(feature_cache, "open_features", interrupted)
        with pytest.raises(SystemExit) as stopped:
            train.main([*SMALL, "--data-dir", str(corpus / "all.csv"), "--out", str(tmp_path)])
        assert stopped.value.code == 130
        assert "--resume" in capsys.readouterr().err

    def test_longer_corpora_are_trained_for_longer(self):
        options = train.COMMAND.choose([])
        assert recipe.choose(options, 3000).steps == recipe.SHORTEST_TRAINING
        assert recipe.choose(options, 64_000).steps == recipe.PASSES * 2000


class TestBeamSearch:
    ARGUMENTS = ("--temperatures", "2", "1", "--beam-widths", "1", "3", "--beam-width", "2")

    def test_sweeps(self, trained, corpus, tmp_path, capsys):
        where = ["--from", str(trained), "--cache-dir", str(corpus / "cache"), "--out", str(tmp_path)]
        assert beam_search.main([*where, *self.ARGUMENTS]) == 0
        report = json.loads((tmp_path / "beam_search.json").read_text())
        results = json.loads((trained / "results.json").read_text())
        for sweep, one in zip(report["trials"], results["trials"], strict=True):
            assert sweep["temperature"]["temperature"] == [1, 2]
            assert sweep["temperature"]["ece"][0] == pytest.approx(one["ece"], rel=1e-4)
            assert sweep["temperature"]["nll"][0] == pytest.approx(one["nll"], rel=1e-4)
            assert sweep["beam_width"]["beam_width"] == [1, 3]
            assert sweep["beam_width"]["wer"][0] == pytest.approx(one["greedy_wer"])
            assert sweep["beam_width"]["cer"][0] == pytest.approx(one["greedy_cer"])
        assert (tmp_path / "temperature.png").read_bytes() != (tmp_path / "beam_width.png").read_bytes()
        check_redraw(tmp_path / "beam_search.json", tmp_path / "again")
        assert (tmp_path / "temperature.png").stat().st_size > 1000
        assert (tmp_path / "beam_width.png").stat().st_size > 1000
        assert "hard targets: WER %" in capsys.readouterr().out
        assert "hard targets: WER %" in (tmp_path / "beam_search.txt").read_text()

    def test_refused(self, tmp_path, capsys):
        assert "--from must be" in refused(capsys, beam_search.main, "--from", str(tmp_path))
        line = refused(capsys, beam_search.main, "--from", str(tmp_path), "--temperatures", "0")
        assert "must be in [0.01, 100]" in line

    @pytest.mark.slow
    def test_moved_and_changed_data(self, trained, corpus, tmp_path, capsys):
        where = ["--from", str(trained), "--cache-dir", str(tmp_path / "cache"), *self.ARGUMENTS]
        moved = tmp_path / "moved"
        shutil.copytree(corpus, moved)
        where += ["--data-dir", str(moved / "all.csv"), "--out", str(tmp_path / "out")]
        assert beam_search.main(where) == 0
        shutil.copy(corpus / "train0.wav", moved / "test0.wav")
        assert "The corpus (all) has changed" in refused(capsys, beam_search.main, *where)
        line = refused(capsys, beam_search.main, *where[:-4], "--out", str(corpus / "all.csv"))
        assert "all.csv" in line

    def test_a_run_from_before_an_option(self, trained, tmp_path):
        shutil.copy(trained / "features.json", tmp_path)
        (tmp_path / "settings.json").write_text((trained / "settings.json").read_text().replace('"snr"', '"old"'))
        assert earlier.read_options(tmp_path).snr is None


class TestTranscribe:
    def test_files(self, trained, corpus, tmp_path, capsys):
        bad = tmp_path / "bad.wav"
        bad.write_text("no audio")
        files = [str(corpus / "test0.wav"), str(bad), str(tmp_path / "none.flac"), str(corpus / "test1.wav")]
        assert transcribe.main(["--from", str(trained), *files]) == 1
        captured = capsys.readouterr()
        lines = [line.split("\t") for line in captured.out.splitlines()]
        assert [line[0] for line in lines] == [files[0], files[3]]
        assert all(len(line) == 3 and float(line[1]) <= 0 for line in lines)
        errors = captured.err.splitlines()
        assert len(errors) == 2
        assert str(bad) in errors[0]
        assert "none.flac" in errors[1]

    def test_text_and_score_are_those_of_the_search(self, trained, corpus, capsys):
        wav = str(corpus / "test0.wav")
        arguments = ["--from", str(trained), "--label-smoothing", "0.1", "--seed", "0", "--beam-width", "3"]
        assert transcribe.main([*arguments, "--n-best", "3", "--json", wav]) == 0
        value = json.loads(capsys.readouterr().out)
        (piece,) = value["pieces"]
        scores = [hypothesis["score"] for hypothesis in piece["hypotheses"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert value["text"] == piece["hypotheses"][0]["text"]
        assert piece["start"] == 0
        assert transcribe.main([*arguments, "--n-best", "3", wav]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 3
        assert transcribe.main([*arguments, wav]) == 0
        assert capsys.readouterr().out.rstrip("\n").split("\t")[2] == value["text"]

    def test_long_audio_in_pieces(self, trained, tmp_path, capsys):
        import soundfile

        rng = np.random.default_rng(0)
        samples = np.concatenate([np.append(speech("abcdabcdab", rng), np.zeros(RATE // 2)) for _ in range(30)])
        soundfile.write(tmp_path / "long.flac", np.stack([samples, samples], 1), RATE)
        assert (
            transcribe.main(["--from", str(trained), "--json", "--beam-width", "1", str(tmp_path / "long.flac")]) == 0
        )
        pieces = json.loads(capsys.readouterr().out)["pieces"]
        assert len(pieces) >= 30
        limit = max(1, (earlier.read_features(trained)[1] * 160 + 399) / RATE)
        assert all(piece["duration"] <= limit + 1e-3 for piece in pieces)
        assert pieces[-1]["start"] + pieces[-1]["duration"] == pytest.approx(45, abs=0.5)

    @pytest.mark.slow
    def test_as_a_command_on_standard_input(self, trained, corpus):
        command = [sys.executable, "-m", "demos.speech.transcribe", "--from", str(trained), "--json", "-"]
        audio = (corpus / "test0.wav").read_bytes()
        done = subprocess.run(command, cwd=ROOT, input=audio, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert json.loads(done.stdout)["file"] == "-"

    def test_refused(self, trained, tmp_path, capsys):
        wav = str(tmp_path / "x.wav")
        assert "--n-best must be at most" in refused(
            capsys, transcribe.main, "--from", str(trained), "--n-best", "9", wav
        )
        assert "α = 0.1 seed 0" in refused(capsys, transcribe.main, "--from", str(trained), "--seed", "7", wav)
        assert "--from must be" in refused(capsys, transcribe.main, "--from", str(tmp_path), wav)

    @pytest.mark.slow
    def test_closed_ends(self, trained, corpus):
        command = [sys.executable, "-m", "demos.speech.transcribe", "--from", str(trained)]
        shell = {"cwd": ROOT, "shell": True, "capture_output": True, "text": True, "check": False}
        no_input = subprocess.run(f"{shlex.join([*command, '-'])} <&-", **shell)
        assert no_input.returncode == 2
        assert "Standard input is closed" in no_input.stderr
        files = [str(corpus / f"test{i}.wav") for i in range(4)]
        no_reader = subprocess.run(f"{shlex.join([*command, *files])} | true", **shell)
        assert "Traceback" not in no_reader.stderr

    def test_a_corrupt_model_is_named(self, trained, tmp_path, capsys):
        copy = tmp_path / "copy"
        shutil.copytree(trained, copy)
        for path in copy.glob("alpha-*/seed-*/model.keras"):
            path.write_bytes(path.read_bytes()[:1000])
        line = refused(capsys, transcribe.main, "--from", str(copy), str(tmp_path / "x.wav"))
        assert "model.keras cannot be used" in line


def test_a_saved_model_has_as_many_parameters_as_it_says(trained):
    one = trained_networks(trained, {})[0]
    model = one.load(Recogniser, tokenizers.read(trained / "tokens.json"))
    assert model.count_params() == one.result["parameters"]
