"""What the speech demo learns from: made sentences, spliced digits, data sets in their own layouts, manifests."""

import collections
import dataclasses
import doctest
import errno
import gzip
import hashlib
import http.server
import io
import itertools
import json
import os
import pathlib
import re
import shutil
import sys
import tarfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from harness import ROOT
from speech_files import Noises, digit_recordings, dominant_frequency, tone, write_wav

from demos.kit import cli, download, multi30k
from demos.kit.errors import MissingExtra
from demos.kit.options import Group
from demos.speech import corpora
from demos.speech.corpora import (
    babble,
    base,
    fsdd,
    grammar,
    librispeech,
    manifest,
    speech_commands,
    synthetic,
)
from demos.speech.sound import espeak, features, noise

pytest.importorskip("soundfile", reason="reading audio needs soundfile")
pytest.importorskip("librosa", reason="resampling audio needs librosa")


CAPTIONS = pathlib.Path(os.environ.get("KERAS_LS_DATA", "nowhere"), "multi30k", "train.en").absolute()


def load(*argv):
    command = cli.Command("demo", "", "", (Group("corpus", corpora.Options),), "")
    return corpora.load(command.choose(list(map(str, argv))))


def sentences(corpus, split):
    return [utterance.transcript for utterance in corpus.splits[split]]


def words(corpus, split):
    return [word for sentence in sentences(corpus, split) for word in sentence.split()]


@pytest.fixture(autouse=True)
def _nothing_else_here(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_LS_DATA", raising=False)
    monkeypatch.setenv("KERAS_LS_CACHE", str(tmp_path / "cache"))


class TestGrammar:
    def test_sentences(self):
        made = grammar.sentences(3, 2000)
        assert len(set(made)) == 2000
        assert made[:50] == grammar.sentences(3, 50)
        assert made != grammar.sentences(4, 2000)
        assert {len(sentence.split()) for sentence in made} <= set(range(3, 9))
        assert all(base.normalise(sentence) == sentence for sentence in made)
        words = {word for sentence in made for word in sentence.split()}
        fixed = {word for template in grammar.TEMPLATES for word in template.split() if "{" not in word}
        fields = {word for words in grammar.FIELDS.values() for word in words}
        assert words <= fixed | fields | {f"{thing}s" for thing in grammar.FIELDS["thing"]} | {"hundred"}
        assert len(words) > 350


@pytest.mark.parametrize("module", [grammar, base])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted > 0 == results.failed


class TestTranscripts:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("  Two young,\tWhite males.\n", "two young white males"),
            ("‘Don’t’ — she'd said: 'no'!", "don't she'd said no"),
            ("A 3-year-old, 5²", "a 3 year old 52"),
            ("ＦＵＬＬ ｗｉｄｔｈ ﬁ", "full width fi"),
            ("Å cafe\u0301 İ", "å café i̇"),
            ("ΣΊΣΥΦΟΣ 你好, мир", "σίσυφος 你好 мир"),
            ("...!?' - \u200b", ""),
            ("I ❤\ufe0f NY 1\ufe0f\u20e3", "i ny 1"),
            ("❤\ufe0f \u0301", ""),
            ("don´t, हिन्दी", "don't हिन्दी"),
            ("", ""),
        ],
    )
    def test_normalise(self, text, expected):
        assert base.normalise(text) == expected
        assert base.normalise(expected) == expected


class TestNoise:
    @pytest.mark.parametrize("snr", [-5.0, 0.0, 12.5])
    def test_power_of_what_is_mixed_in(self, rng, snr):
        speech, other = 0.1 * rng.standard_normal(8000), 7 * rng.standard_normal(8000)
        added = noise.mix(speech, other, snr).astype("float64")
        scale = np.linalg.lstsq(np.stack([speech, other], 1), added, rcond=None)[0]
        assert 10 * np.log10(np.sum((scale[0] * speech) ** 2) / np.sum((scale[1] * other) ** 2)) == pytest.approx(
            snr, abs=1e-6
        )
        assert np.abs(added).max() <= 1

    def test_silence_is_mixed_in_as_it_is(self):
        np.testing.assert_array_equal(noise.mix(tone(), np.zeros(8000), 3.0), tone())

    def test_generators_are_told_apart(self):
        draws = [noise.generator(*parts).random() for parts in (("a", "b"), ("ab",), ("a", 1), ("a", "b"))]
        assert draws[0] == draws[3]
        assert len(set(draws)) == 3

    @pytest.mark.parametrize("length", [1, 5, 1000, 4097])
    def test_hiss(self, length):
        made = noise.hiss(np.random.default_rng(0), length)
        assert made.shape == (length,)
        assert np.isfinite(made).all()
        assert np.abs(made).max() > 0


class TestEspeak:
    @pytest.fixture(autouse=True)
    def _loader(self):
        pytest.importorskip("espeakng_loader", reason="eSpeak NG comes with espeakng-loader")

    def test_the_same_whatever_was_said_before(self):
        for voice in ("en-us+f1", "en-gb-scotland+whisper"):
            first, rate = espeak.speak("call seven", voice, 160, 40, seed=5)
            espeak.speak("something else entirely", "en-us+m2", 190, 70)
            again, _ = espeak.speak("call seven", voice, 160, 40, seed=5)
            assert rate == 22_050
            np.testing.assert_array_equal(first, again)
            assert len(first) > 0.3 * rate

    def test_settings_are_heard(self):
        slow, fast = (espeak.speak("one two three four five", "en-us", speed, 50)[0] for speed in (120, 240))
        assert len(slow) > 1.5 * len(fast)
        low, high = (espeak.speak("one two three", "en-us", 160, pitch)[0] for pitch in (10, 90))
        assert not np.array_equal(low, high)

    def test_every_voice_of_the_corpus_exists(self):
        for accent in synthetic.ACCENTS:
            for variant in synthetic.VARIANTS:
                assert len(espeak.speak("hello", f"{accent}+{variant}", 160, 50)[0])

    def test_unknown_voice(self):
        with pytest.raises(ValueError, match="no voice 'xx-nowhere'"):
            espeak.speak("hello", "xx-nowhere", 160, 50)

    def test_missing_package_names_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "espeakng_loader", None)
        with pytest.raises(MissingExtra, match=r'espeakng_loader: pip install -e "\.\[speech\]"'):
            load()


class TestSynthetic:
    @pytest.fixture(autouse=True)
    def _loader(self):
        pytest.importorskip("espeakng_loader", reason="eSpeak NG comes with espeakng-loader")

    def test_splits_share_neither_sentences_nor_settings(self):
        corpus = load()
        assert {split: len(found) for split, found in corpus.splits.items()} == {"train": 3000, "dev": 200, "test": 300}
        said = {split: set(sentences(corpus, split)) for split in corpora.SPLITS}
        pairs = {
            split: {(u.words_per_minute, u.pitch) for u in utterances} for split, utterances in corpus.splits.items()
        }
        for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
            assert not said[one] & said[other]
            assert not pairs[one] & pairs[other]
        assert {u.voice for u in corpus.splits["test"]} <= {u.voice for u in corpus.splits["train"]}
        assert len({u.key for found in corpus.splits.values() for u in found}) == 3500
        assert len({word for split in corpora.SPLITS for word in words(corpus, split)}) == 418  # as docs/speech.md says

    @pytest.mark.skipif(not CAPTIONS.exists(), reason="$KERAS_LS_DATA does not hold Multi30k")
    def test_captions_have_the_words_that_the_guide_says(self):
        sizes = ("--train-sentences", 4000, "--dev-sentences", 200, "--test-sentences", 300)
        corpus = load("--text", CAPTIONS, *sizes)
        known, tested = set(words(corpus, "train")), words(corpus, "test")
        unknown = sum(word not in known for word in tested) / len(tested)
        page = (ROOT / "docs" / "speech.md").read_text(encoding="utf-8")
        said = re.search(r"([\d,]+)\s+different words; (\d) % of the test sentences' words", page)
        assert said.groups() == (f"{len(known):,}", f"{100 * unknown:.0f}")

    def test_waveforms_are_functions_of_the_utterance(self):
        one, other = load("--train-sentences", 20), load("--train-sentences", 20)
        utterances = one.splits["train"]
        first = [one.waveform(u) for u in utterances[:4]]
        again = [other.waveform(u) for u in utterances[3::-1]][::-1]
        for a, b, u in zip(first, again, utterances, strict=False):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == np.float32
            assert np.abs(a).max() <= 1
            assert 0.5 < len(a) / 16_000 < 8
            assert len(u.transcript) < len(a) // 640
        assert one.fingerprint() == other.fingerprint() != load("--train-sentences", 21).fingerprint()

    def test_fast_speech_has_time_for_its_characters(self):
        corpus = load("--train-sentences", 5)
        for words_per_minute in (160, 450):
            fast = dataclasses.replace(corpus.splits["train"][0], words_per_minute=words_per_minute)
            assert features.num_frames(len(corpus.waveform(fast))) // 4 >= len(fast.transcript)

    def test_text_file(self, tmp_path):
        path = tmp_path / "lines.txt"
        path.write_text("\ufeffA dog runs.\n\n A DOG runs!\n" + "".join(f"Sentence number {i}.\n" for i in range(40)))
        corpus = load("--text", path, "--dev-sentences", 4, "--test-sentences", 6)
        parts = [sentences(corpus, split) for split in corpora.SPLITS]
        assert list(map(len, parts)) == [31, 4, 6]
        assert sorted(itertools.chain(*parts)) == sorted(["a dog runs", *(f"sentence number {i}" for i in range(40))])
        assert corpus.name == "lines"
        assert len(corpus.waveform(corpus.splits["dev"][0])) > 8000

    def test_text_file_in_the_data_directory(self, tmp_path, monkeypatch):
        folder = tmp_path / "multi30k"
        folder.mkdir()
        (folder / "lines.en").write_text("".join(f"Sentence number {i}.\n" for i in range(20)))
        monkeypatch.setenv("KERAS_LS_DATA", str(tmp_path))
        assert load("--text", "lines.en", "--dev-sentences", 4, "--test-sentences", 6).name == "lines"
        monkeypatch.setenv("KERAS_LS_DATA", str(tmp_path / "no"))
        with pytest.raises(ValueError, match=r"lines\.en cannot be read"):
            load("--text", "lines.en")
        monkeypatch.setenv("KERAS_LS_CACHE", str(tmp_path))  # as the translation demo leaves it
        assert load("--text", "lines.en", "--dev-sentences", 4, "--test-sentences", 6).name == "lines"

    def test_refused_text_files(self, tmp_path):
        path = tmp_path / "lines.txt"
        with pytest.raises(ValueError, match=r"lines\.txt cannot be read: No such file"):
            load("--text", path)
        path.write_bytes(b"caf\xe9\n")
        with pytest.raises(ValueError, match=r"lines\.txt line 1 is not UTF-8"):
            load("--text", path)
        path.write_text("one\ntwo\n")
        with pytest.raises(ValueError, match=r"2 different sentences, fewer than the 1 \+ 200 \+ 300"):
            load("--text", path)
        path.write_text("one\n" + "word " * 100)
        with pytest.raises(ValueError, match=r"must have one sentence per line\. Line 2 has 100 words"):
            load("--text", path)


class TestDigits:
    def test_splits_by_index_and_speaker(self, tmp_path):
        corpus = load("--corpus", "fsdd", "--data-dir", digit_recordings(tmp_path / "fsdd"), "--train-sentences", 300)
        name = re.compile(r"([0-9])_([a-z]+)_([0-9]+)\.wav")
        for split, indices in (("train", {10, 11}), ("dev", set(range(5, 10))), ("test", set(range(5)))):
            files = [[name.fullmatch(file).groups() for file in u.recordings] for u in corpus.splits[split]]
            assert {int(index) for string in files for _, _, index in string} == indices
            assert {speaker for string in files for _, speaker, _ in string} == {"ann", "bob"}
            assert all(len({speaker for _, speaker, _ in string}) == 1 for string in files)
            assert {len(string) for string in files} == set(range(1, 8))
            for string, transcript in zip(files, sentences(corpus, split), strict=True):
                assert transcript.split() == [fsdd.DIGITS[int(digit)] for digit, _, _ in string]

    def test_waveform_says_the_digits_in_order_with_pauses(self, tmp_path):
        corpus = load("--corpus", "fsdd", "--data-dir", digit_recordings(tmp_path), "--train-sentences", 40)
        for utterance in corpus.splits["train"][:20]:
            waveform = corpus.waveform(utterance)
            np.testing.assert_array_equal(waveform, corpus.waveform(utterance))
            loud = np.convolve(np.abs(waveform), np.ones(80), "same") > 0.05
            edges = np.flatnonzero(np.diff(np.r_[0, loud.astype(int), 0])).reshape(-1, 2)
            speaker = utterance.key.endswith("bob")
            heard = [round((dominant_frequency(waveform[a:b]) - 300 - 50 * speaker) / 100) for a, b in edges]
            assert [fsdd.DIGITS[digit] for digit in heard] == utterance.transcript.split()
            pauses = (edges[1:, 0] - edges[:-1, 1]) / 16_000
            assert ((pauses > 0.01) & (pauses < 0.42)).all()

    def test_speakers_held_out(self, tmp_path):
        root = digit_recordings(tmp_path, ("ann", "bob", "cat"))
        corpus = load("--corpus", "fsdd", "--data-dir", root, "--speaker-held-out", "bob", "--train-sentences", 99)
        heard = {split: {u.key.split(": ")[1] for u in found} for split, found in corpus.splits.items()}
        assert heard == {"train": {"ann", "cat"}, "dev": {"ann", "cat"}, "test": {"bob"}}

    def test_few_recordings(self, tmp_path):
        root = digit_recordings(tmp_path)
        corpus = load("--corpus", "fsdd", "--data-dir", root, "--recordings", 1, "--train-sentences", 50)
        used = {name.rpartition("_")[2] for u in corpus.splits["train"] for name in u.recordings}
        assert used == {"10.wav"}
        assert len({name.rpartition("_")[2] for u in corpus.splits["dev"] for name in u.recordings}) == 5

    def test_moved_recordings_are_the_same_corpus(self, tmp_path):
        root = digit_recordings(tmp_path / "here")
        before = load("--corpus", "fsdd", "--data-dir", root)
        shutil.copytree(root, tmp_path / "there")
        after = load("--corpus", "fsdd", "--data-dir", tmp_path / "there")
        assert after.fingerprint() == before.fingerprint()
        np.testing.assert_array_equal(*(c.waveform(c.splits["test"][0]) for c in (before, after)))

    @pytest.mark.parametrize("names", [["dan"], ["ann", "bob"], ["ann", "dan"]])
    def test_refused_speakers(self, tmp_path, names):
        root = digit_recordings(tmp_path)
        with pytest.raises(ValueError, match=rf"some of the speakers, not all: ann, bob\. Received: {' '.join(names)}"):
            load("--corpus", "fsdd", "--data-dir", root, "--speaker-held-out", *names)

    def test_refused_recordings(self, tmp_path):
        root = digit_recordings(tmp_path)
        for index in range(5):
            (root / "recordings" / f"3_bob_{index}.wav").unlink()
        with pytest.raises(ValueError, match="3_bob has none for the test split"):
            load("--corpus", "fsdd", "--data-dir", root)
        for path in (root / "recordings").iterdir():
            path.rename(path.with_name(f"x{path.name}"))
        with pytest.raises(ValueError, match=r"no recordings named DIGIT_SPEAKER_INDEX\.wav"):
            load("--corpus", "fsdd", "--data-dir", root)

    def test_damaged_recording_is_named(self, tmp_path):
        corpus = load("--corpus", "fsdd", "--data-dir", digit_recordings(tmp_path), "--train-sentences", 5)
        utterance = corpus.splits["train"][0]
        damaged = corpus.folder / utterance.recordings[-1]
        damaged.write_bytes(b"x")
        with pytest.raises(ValueError, match=re.escape(str(damaged))):
            corpus.waveform(utterance)


class TestLibriSpeech:
    def layout(self, root, change=lambda lines: lines):
        soundfile = pytest.importorskip("soundfile")
        for folder in ("train-clean-100", "train-other-500", "dev-clean", "test-clean", "intro"):
            chapter = root / folder / "84" / "121"
            chapter.mkdir(parents=True)
            lines = []
            for i in range(3):
                soundfile.write(chapter / f"84-121-000{i}.flac", tone(0.3, hertz=300 + 100 * i), 16_000)
                lines.append(f"84-121-000{i} IT'S NUMBER {folder.upper()} {i}")
            (chapter / "84-121.trans.txt").write_text("\n".join(change(lines)) + "\n")
        return root

    @pytest.mark.parametrize("folder", ["", "LibriSpeech", "librispeech"])
    def test_folders_of_a_split_come_together(self, tmp_path, folder):
        self.layout(tmp_path / folder)
        corpus = load("--corpus", "librispeech", "--data-dir", tmp_path)
        assert sentences(corpus, "train") == [
            f"it's number train {words} {i}" for words in ("clean 100", "other 500") for i in range(3)
        ]
        assert sentences(corpus, "test") == [f"it's number test clean {i}" for i in range(3)]
        utterance = corpus.splits["dev"][2]
        assert dominant_frequency(corpus.waveform(utterance)) == pytest.approx(500, abs=4)
        assert utterance.key.endswith("dev-clean/84/121/84-121-0002.flac")

    def test_missing_audio_and_empty_transcripts(self, tmp_path):
        root = self.layout(tmp_path, lambda lines: [lines[0], "84-121-0001", lines[2], "84-121-0007 GONE"])
        with pytest.raises(
            ValueError, match=r"trans\.txt, line 2: the transcript of .*0001\.flac is empty.*--skip-bad"
        ):
            load("--corpus", "librispeech", "--data-dir", root)
        corpus = load("--corpus", "librispeech", "--data-dir", root, "--skip-bad")
        assert {split: len(lines) for split, lines in corpus.skipped.items()} == {"train": 4, "dev": 2, "test": 2}
        assert "line 4: the audio file" in corpus.skipped["dev"][1]
        assert "0007.flac does not exist" in corpus.skipped["dev"][1]


class TestSpeechCommands:
    def layout(self, root):
        for word in ("yes", "no", "_background_noise_"):
            for i in range(6):
                write_wav(root / word / f"{i:08x}_nohash_0.wav", tone(0.2))
        (root / "testing_list.txt").write_text("yes/00000000_nohash_0.wav\nno/00000000_nohash_0.wav\n")
        (root / "validation_list.txt").write_text("yes/00000001_nohash_0.wav\n")
        return root

    def test_its_own_lists_are_kept(self, tmp_path):
        corpus = load("--corpus", "speech_commands", "--data-dir", self.layout(tmp_path))
        assert sentences(corpus, "test") == ["yes", "no"]
        assert sentences(corpus, "dev") == ["yes"]
        assert collections.Counter(sentences(corpus, "train")) == {"yes": 4, "no": 5}
        paths = [u.path for found in corpus.splits.values() for u in found]
        assert len(set(paths)) == 12

    def test_a_listed_recording_that_is_not_there(self, tmp_path):
        root = self.layout(tmp_path)
        (root / "no" / "00000000_nohash_0.wav").unlink()
        with pytest.raises(ValueError, match=r"testing_list\.txt: the audio file .*no/00000000_nohash_0\.wav does not"):
            load("--corpus", "speech_commands", "--data-dir", root)
        assert len(load("--corpus", "speech_commands", "--data-dir", root, "--skip-bad").skipped["test"]) == 1


class TestManifest:
    rows = tuple(
        {"audio": f"clips/{split}-{i}.wav", "transcript": f"Clip, number {i}", "split": split}
        for split in ("train", "dev", "test")
        for i in range(2)
    )

    def write(self, root, rows, form="csv"):
        for row in self.rows:
            write_wav(root / row["audio"], tone(0.2))
        path = root / f"own.{form}"
        if form == "csv":
            lines = ["split,audio,transcript"]
            lines += ['{split},{audio},"{transcript}"'.format(**row) for row in rows]
            path.write_text("\n".join(lines) + "\n")
        else:
            path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
        return path

    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    def test_both_forms(self, tmp_path, form):
        corpus = load("--corpus", "manifest", "--data-dir", self.write(tmp_path, self.rows, form))
        assert sentences(corpus, "dev") == ["clip number 0", "clip number 1"]
        assert corpus.name == "own"
        assert corpus.splits["test"][1].path == str(tmp_path / "clips" / "test-1.wav")
        assert len(corpus.waveform(corpus.splits["test"][1])) == 3200

    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"audio": "clips/gone.wav"}, r"own\.{form}, line {line}: the audio file .*clips/gone\.wav does not exist"),
            ({"audio": "~nobody.wav"}, r"line {line}: the audio file .*~nobody\.wav does not exist"),
            ({"transcript": "?!"}, r"line {line}: the transcript of .*train-1\.wav is empty. Received: '\?!'"),
            ({"audio": "clips/train-0.wav"}, r"line {line}: .*train-0\.wav is listed twice"),
            ({"audio": "clips/../clips/train-0.wav"}, r"line {line}: .*train-0\.wav is listed twice"),
        ],
    )
    def test_bad_entries_are_refused_or_skipped(self, tmp_path, form, change, message):
        rows = [row | change if i == 1 else row for i, row in enumerate(self.rows)]
        path = self.write(tmp_path, rows, form)
        with pytest.raises(ValueError, match=message.format(form=form, line=3)):
            load("--corpus", "manifest", "--data-dir", path)
        corpus = load("--corpus", "manifest", "--data-dir", path, "--skip-bad")
        assert len(corpus.skipped["train"]) == 1
        assert len(corpus.splits["train"]) == 1

    @pytest.mark.parametrize("skip", [[], ["--skip-bad"]])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", r"own\.csv must have the columns audio, transcript, split .*Without: \['audio', "),
            ("audio,text,split\n", r"Without: \['transcript'\]"),
            (
                "audio,transcript,split\na.wav,hello,valid\n",
                "line 2: the split must be one of train, dev, test.*'valid'",
            ),
            ("audio,transcript,split\na.wav,hello\n", "line 2 must have audio, .*Without: split"),
            ("audio,split,transcript\na.wav,dev,hello, world\n", "line 2 has more cells than the first line: quote"),
            ('audio,transcript,split\na.wav,"hel', "cannot be read as CSV: unexpected end"),
            ('audio,transcript,"split', "line 1 cannot be read as CSV: unexpected end"),
        ],
    )
    def test_refused_tables(self, tmp_path, content, message, skip):
        path = tmp_path / "own.csv"
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            load("--corpus", "manifest", "--data-dir", path, *skip)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"audio": "a.wav"', "line 1 cannot be read as JSON"),
            ("[1]\n", "line 1 cannot be read as JSON: not an object"),
            ("[" * 100_000, "line 1 cannot be read as JSON: .*recursion"),
            ('{"audio": "a.wav", "transcript": 7, "split": "dev"}', "Without: transcript"),
        ],
    )
    def test_refused_lines(self, tmp_path, content, message):
        path = tmp_path / "own.jsonl"
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            load("--corpus", "manifest", "--data-dir", path)

    def test_refused_files(self, tmp_path):
        with pytest.raises(ValueError, match="needs --data-dir"):
            load("--corpus", "manifest")
        with pytest.raises(ValueError, match=r"must be a \.csv or \.jsonl file. Received: .*own\.txt"):
            load("--corpus", "manifest", "--data-dir", tmp_path / "own.txt")
        with pytest.raises(ValueError, match=r"own\.csv cannot be read"):
            load("--corpus", "manifest", "--data-dir", tmp_path / "own.csv")

    def test_an_empty_split(self, tmp_path):
        with pytest.raises(ValueError, match="The dev split of own holds no utterances"):
            load("--corpus", "manifest", "--data-dir", self.write(tmp_path, self.rows[:2]))
        rows = [row | {"transcript": ""} if row["split"] == "test" else row for row in self.rows]
        with pytest.raises(
            ValueError, match=r"test split of own holds no utterances\. 2 were skipped as bad, the first: "
        ):
            load("--corpus", "manifest", "--data-dir", self.write(tmp_path, rows), "--skip-bad")

    def test_a_changed_file_changes_the_fingerprint(self, tmp_path):
        path = self.write(tmp_path, self.rows)
        before = load("--corpus", "manifest", "--data-dir", path).fingerprint()
        assert load("--corpus", "manifest", "--data-dir", path).fingerprint() == before
        write_wav(tmp_path / self.rows[0]["audio"], tone(0.3))
        assert load("--corpus", "manifest", "--data-dir", path).fingerprint() != before

    def test_lines_of_json_end_where_json_says(self, tmp_path):
        rows = [row | {"transcript": "one\u2028two"} for row in self.rows]
        path = self.write(tmp_path, self.rows)
        path = path.with_suffix(".jsonl")
        path.write_text("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
        assert sentences(load("--corpus", "manifest", "--data-dir", path), "dev") == ["one two"] * 2

    def test_moved_files_are_the_same_corpus(self, tmp_path):
        before = load("--corpus", "manifest", "--data-dir", self.write(tmp_path / "here", self.rows))
        os.utime(tmp_path / "here" / self.rows[0]["audio"], (1, 1))
        shutil.move(tmp_path / "here", tmp_path / "there")
        after = load("--corpus", "manifest", "--data-dir", next((tmp_path / "there").glob("own.*")))
        assert after.fingerprint() == before.fingerprint()
        assert after.times != before.times
        assert [u.key for u in after.splits["dev"]] == [row["audio"] for row in self.rows if row["split"] == "dev"]


class TestBabble:
    def test_snr_and_determinism(self):
        plain = Noises()
        noisy, again = babble.WithBabble(plain, 3, 6), babble.WithBabble(Noises(), 3, 6)
        for utterance in [*plain.splits["train"][:5], *plain.splits["test"]]:
            speech, mixed = plain.waveform(utterance), noisy.waveform(utterance)
            np.testing.assert_array_equal(mixed, again.waveform(utterance))
            scale = np.dot(mixed, speech) / np.dot(speech, speech)  # babble of others is nearly uncorrelated
            snr = 10 * np.log10(np.sum((scale * speech) ** 2) / np.sum((mixed - scale * speech) ** 2))
            assert 2.5 < snr < 6.5
        assert noisy.fingerprint() != plain.fingerprint()
        assert noisy.fingerprint() != babble.WithBabble(plain, 3, 7).fingerprint()

    def test_babble_is_of_other_training_recordings(self):
        class Tones(Noises):
            def waveform(self, utterance):
                split, _, number = utterance.key.partition("-")
                return tone(1.0, hertz=500 + 100 * int(number) + 3000 * (split != "train"))

        corpus = babble.WithBabble(Tones(train=6), 0, 0)
        for utterance in [*corpus.splits["train"], *corpus.splits["test"]]:
            spectrum = np.abs(np.fft.rfft(corpus.waveform(utterance)))
            heard = set(np.flatnonzero(spectrum > 0.2 * spectrum.max()))
            number = int(utterance.key.partition("-")[2])
            own = 500 + 100 * number + 3000 * (not utterance.key.startswith("train"))
            assert own in heard
            assert len(heard - {own}) == babble.VOICES
            assert heard - {own} <= {500 + 100 * i for i in range(6)}

    def test_recordings_that_cannot_be_read_do_not_babble(self):
        corpus = babble.WithBabble(Noises(fails=["train-0", "train-1"]), 3, 3)
        assert len(corpus.waveform(corpus.splits["test"][0])) > 400
        with pytest.raises(ValueError, match="train-0 cannot be read"):
            corpus.waveform(corpus.splits["train"][0])
        alone = babble.WithBabble(Noises(train=1), 3, 3)
        with pytest.raises(ValueError, match="--snr needs other training recordings than train-0"):
            alone.waveform(alone.splits["train"][0])

    @pytest.mark.parametrize("snr", [(6, 3), (-30, 0), (0, 99), (float("nan"), 3)])
    def test_refused_ranges(self, snr):
        with pytest.raises(ValueError, match="--snr must be LOW HIGH in dB"):
            babble.WithBabble(Noises(), *snr)

    def test_on_the_command_line(self, tmp_path):
        root = digit_recordings(tmp_path)
        arguments = ["--corpus", "fsdd", "--data-dir", root, "--train-sentences", 20]
        plain, noisy = load(*arguments), load(*arguments, "--snr", 0, 0)
        utterance = plain.splits["test"][0]
        assert not np.allclose(plain.waveform(utterance), noisy.waveform(utterance))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--corpus", "fsdd", "--text", "x"], "--text is for --corpus synthetic. Received: --corpus fsdd"),
        (["--speaker-held-out", "x"], "--speaker-held-out is for --corpus fsdd"),
        (["--data-dir", "x"], "--data-dir is for --corpus fsdd or librispeech"),
        (["--corpus", "manifest", "--test-sentences", "3"], "--test-sentences is for --corpus synthetic or fsdd"),
    ],
)
def test_options_of_other_corpora(argv, message):
    with pytest.raises(ValueError, match=message):
        load(*argv)


class TestWhereDataLies:
    def test_cache_directory(self, monkeypatch, tmp_path):
        assert download.cache_directory() == tmp_path / "cache"
        monkeypatch.delenv("KERAS_LS_CACHE")
        assert download.cache_directory() == pathlib.Path.home() / ".cache" / "keras_ls"

    def test_directory_from_the_environment(self, tmp_path, monkeypatch):
        digit_recordings(tmp_path / "fsdd")
        monkeypatch.setenv("KERAS_LS_DATA", str(tmp_path))
        assert len(load("--corpus", "fsdd", "--test-sentences", 7).splits["test"]) == 7

    @pytest.mark.parametrize("name", ["fsdd", "librispeech", "speech_commands"])
    def test_absent_and_offline_is_one_line_that_says_how(self, name, monkeypatch):
        def offline(*_, **__):
            raise OSError("no network")

        monkeypatch.setattr(download.urllib.request, "urlopen", offline)
        with pytest.raises(ValueError, match=rf"{name} is not here: unpack .*https://.* --data-dir or \$KERAS_LS_DATA"):
            load("--corpus", name)

    def test_wrong_directory(self, tmp_path):
        with pytest.raises(ValueError, match=r"holds no recordings/\*\.wav of fsdd: unpack https://"):
            load("--corpus", "fsdd", "--data-dir", tmp_path)

    def test_an_emptied_cache(self, tmp_path):
        (tmp_path / "cache" / "fsdd").mkdir(parents=True)
        with pytest.raises(ValueError, match=r"fsdd holds no recordings/\*\.wav of fsdd: remove it"):
            load("--corpus", "fsdd")


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file, with ranges unless `ranges` is false; breaks off after `cut` bytes of an answer `cuts` times."""

    content, ranges, cut, cuts, asked, paths = b"", True, 0, 0, [], ("/data.tar.gz",)

    def do_GET(self):
        cls, wanted = type(self), self.headers.get("Range")
        cls.asked.append(wanted)
        if self.path not in self.paths:
            return self.send_error(404)
        first = int(wanted[6:-1]) if wanted and self.ranges else 0
        if first and first >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            return self.end_headers()
        body = self.content[first:]
        self.send_response(206 if wanted and self.ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cls.cuts:
            cls.cuts -= 1
            body = body[: self.cut]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class TestDownload:
    @pytest.fixture
    def server(self):
        class Fresh(Server):
            asked = []  # noqa: RUF012

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fresh) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            Fresh.address = f"http://127.0.0.1:{server.server_port}"
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                for name in ("inside/a.txt", "inside/b.bin"):
                    data = np.random.default_rng(0).bytes(50_000)
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
            Fresh.content = file.getvalue()
            yield Fresh
            server.shutdown()

    def archive(self, server, content=None, name="data.tar.gz"):
        digest = hashlib.sha256(server.content if content is None else content).hexdigest()
        return download.Archive(f"{server.address}/{name}", digest)

    def whole(self, folder):
        assert sorted(p.name for p in (folder / "inside").iterdir()) == ["a.txt", "b.bin"]
        assert (folder / "inside" / "a.txt").read_bytes() == np.random.default_rng(0).bytes(50_000)
        assert self.left(folder.parent) == [folder.name]
        return True

    def left(self, directory):
        return [path.name for path in directory.iterdir() if path.name != ".lock"]

    def test_whole_and_only_once(self, server, tmp_path, capsys):
        folder = tmp_path / "cache" / "set"
        assert self.whole(download.fetch((self.archive(server),), folder))
        assert "data.tar.gz: 0.1 of 0.1 MB" in capsys.readouterr().out
        assert self.whole(download.fetch((self.archive(server),), folder))
        assert server.asked == [None]

    @pytest.mark.parametrize("ranges", [True, False])
    def test_goes_on_after_a_line_that_breaks(self, server, tmp_path, ranges):
        server.cut, server.cuts, server.ranges = 30_000, 2, ranges
        assert self.whole(download.fetch((self.archive(server),), tmp_path / "set"))
        assert server.asked == [None, "bytes=30000-", "bytes=60000-" if ranges else "bytes=30000-"]

    def test_two_processes_share_one_download(self, server, tmp_path):
        with ThreadPoolExecutor(2) as pool:  # their locks are as those of two processes
            for folder in pool.map(download.fetch, [(self.archive(server),)] * 2, [tmp_path / "set"] * 2):
                assert self.whole(folder)
        assert server.asked == [None]

    def test_goes_on_in_a_later_call(self, server, tmp_path):
        server.cut, server.cuts = 20_000, download.TRIES
        with pytest.raises(ValueError, match=r"could not be downloaded: .* ended after 60000 of .*from the 0\.1 MB"):
            download.fetch((self.archive(server),), tmp_path / "set")
        assert not (tmp_path / "set").exists()
        assert self.whole(download.fetch((self.archive(server),), tmp_path / "set"))
        assert server.asked[-1] == "bytes=60000-"

    def test_killed_between_the_last_byte_and_the_check(self, server, tmp_path):
        (tmp_path / "data.tar.gz.part").write_bytes(server.content)
        assert self.whole(download.fetch((self.archive(server),), tmp_path / "set"))

    def test_killed_while_unpacking(self, server, tmp_path):
        (tmp_path / "data.tar.gz").write_bytes(server.content)
        (tmp_path / "set.unpacking" / "inside").mkdir(parents=True)
        (tmp_path / "set.unpacking" / "inside" / "half.txt").write_bytes(b"x")
        assert self.whole(download.fetch((self.archive(server),), tmp_path / "set"))
        assert server.asked == []

    def test_other_content_is_refused_and_removed(self, server, tmp_path):
        with pytest.raises(ValueError, match=r"data\.tar\.gz is not what it should be and is removed: its SHA-256"):
            download.fetch((self.archive(server, b"other"),), tmp_path / "set")
        assert self.left(tmp_path) == []

    @pytest.mark.parametrize("broken", [b"<html>no such file</html>", None])
    def test_without_a_checksum_what_does_not_unpack_is_removed(self, server, tmp_path, broken):
        server.content = broken or server.content[:-20_000]
        with pytest.raises(ValueError, match="could not be unpacked and is removed"):
            download.fetch((download.Archive(f"{server.address}/data.tar.gz"),), tmp_path / "set")
        assert not (tmp_path / "set").exists()
        assert not (tmp_path / "data.tar.gz").exists()

    def test_a_full_disk_costs_no_archive(self, server, tmp_path, monkeypatch):
        def full(*arguments, **how):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(tarfile.TarFile, "extractall", full)
            with pytest.raises(ValueError, match=r"No space left on device\. The same command tries again"):
                download.fetch((self.archive(server),), tmp_path / "set")
        assert self.whole(download.fetch((self.archive(server),), tmp_path / "set"))
        assert len(server.asked) == 1

    def test_a_damaged_stream_is_removed(self, server, tmp_path, monkeypatch):
        def damaged(*arguments, **how):
            raise zlib.error("invalid distance too far back")

        monkeypatch.setattr(tarfile.TarFile, "extractall", damaged)
        with pytest.raises(ValueError, match="could not be unpacked and is removed: invalid distance"):
            download.fetch((self.archive(server),), tmp_path / "set")
        assert not (tmp_path / "data.tar.gz").exists()

    def test_refused_by_the_server(self, server, tmp_path):
        with pytest.raises(ValueError, match=r"other\.tar\.gz could not be downloaded: HTTP Error 404"):
            download.fetch((self.archive(server, name="other.tar.gz"),), tmp_path / "set")
        assert len(server.asked) == 1

    def test_a_corpus_is_downloaded_where_it_is_nowhere(self, server, tmp_path, monkeypatch):
        digit_recordings(tmp_path / "made" / "free-spoken-digit-dataset-1.0.10")
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            archive.add(tmp_path / "made", ".")
        server.content = file.getvalue()
        monkeypatch.setattr(fsdd, "ARCHIVE", download.Archive(f"{server.address}/data.tar.gz"))
        corpus = load("--corpus", "fsdd", "--test-sentences", 3)
        assert len(corpus.waveform(corpus.splits["test"][0])) > 3200
        assert (tmp_path / "cache" / "fsdd").is_dir()

    def test_captions_are_downloaded_file_by_file_for_both_demos_that_read_them(self, server, tmp_path, monkeypatch):
        text = "".join(f"Sentence number {i}.\n" for i in range(20)).encode()
        server.content, server.paths = gzip.compress(text), [f"/{name}.gz" for name in multi30k.SHA256]
        archives = tuple(self.archive(server, name=path[1:]) for path in server.paths)
        monkeypatch.setattr(multi30k, "ARCHIVES", archives)
        assert load("--text", "train.en", "--dev-sentences", 4, "--test-sentences", 6).name == "train"
        folder = multi30k.directory(None)
        assert folder == tmp_path / "cache" / "multi30k"
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict.fromkeys(multi30k.SHA256, text)
        assert self.left(folder.parent) == ["multi30k"]
        assert len(server.asked) == len(archives)

    # Without its time the archive is the same in all processes, whose tests must have the same names.
    @pytest.mark.parametrize("broken", [b"<html>no such file</html>", gzip.compress(b"x" * 9999, mtime=0)[:-9]])
    def test_a_single_file_that_is_broken_is_removed(self, server, tmp_path, broken):
        server.content, server.paths = broken, ["/a.gz"]
        with pytest.raises(ValueError, match="could not be unpacked and is removed"):
            download.fetch((download.Archive(f"{server.address}/a.gz"),), tmp_path / "set")
        assert not (tmp_path / "set").exists()
        assert not (tmp_path / "a.gz").exists()


def test_where_archives_are_is_said_once():
    assert download.urls((download.Archive("https://a/b.gz"),)) == "https://a/b.gz"
    three = tuple(download.Archive(f"https://a/{name}.gz") for name in "bcd")
    assert download.urls(three) == "b.gz, c.gz and d.gz from https://a/"
    assert download.urls((*three[:1], download.Archive("https://e/c.gz"))) == "https://a/b.gz and https://e/c.gz"


def test_archives_are_pinned():
    archives = [*librispeech.ARCHIVES, speech_commands.ARCHIVE, *multi30k.ARCHIVES]
    assert all(re.fullmatch("[0-9a-f]{64}", archive.sha256) for archive in archives)
    assert manifest.COLUMNS == ("audio", "transcript", "split")
