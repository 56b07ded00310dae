"""Reading audio for the speech demo: every format to 16 kHz mono, and one clear line for what cannot be used."""

import io
import sys
import tracemalloc

import numpy as np
import pytest
from speech_files import dominant_frequency, tone, wav_bytes, write_wav

from demos import cli
from demos.speech import audio

soundfile = pytest.importorskip("soundfile", reason="reading audio needs soundfile")
librosa = pytest.importorskip("librosa", reason="resampling audio needs librosa")


class TestRead:
    def test_sixteen_bits_at_16_khz_are_kept_exactly(self, tmp_path, rng):
        samples = rng.integers(-32768, 32768, 5000).astype("int16")
        path = tmp_path / "a.wav"
        path.write_bytes(wav_bytes(samples.tobytes()))
        got = audio.read(path)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, samples / np.float32(32768))

    @pytest.mark.parametrize("rate", [4000, 8000, 11025, 22050, 44100, 48000, 96000, 192000])
    def test_any_sample_rate(self, tmp_path, rate):
        got = audio.read(write_wav(tmp_path / "a.wav", tone(1.0, rate), rate))
        assert len(got) == pytest.approx(16_000, abs=1)
        assert dominant_frequency(got) == pytest.approx(440, abs=1.5)
        assert np.abs(got[4000:12000]).max() == pytest.approx(0.5, rel=0.02)

    @pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
    def test_any_width_of_samples(self, tmp_path, subtype):
        soundfile.write(tmp_path / "a.wav", tone(), 16_000, subtype)
        np.testing.assert_allclose(audio.read(tmp_path / "a.wav"), tone(), atol=0.02)

    def test_channels_are_mixed_down(self, tmp_path):
        left, right = tone(hertz=300), tone(hertz=900)
        path = write_wav(tmp_path / "a.wav", np.stack([left, right], 1))
        np.testing.assert_allclose(audio.read(path), (left + right) / 2, atol=1e-4)
        path = write_wav(tmp_path / "b.wav", np.stack([left] * 6, 1))
        np.testing.assert_allclose(audio.read(path), left, atol=1e-4)

    @pytest.mark.parametrize(("suffix", "format"), [("flac", "FLAC"), ("ogg", "OGG"), ("mp3", "MP3"), ("aiff", "AIFF")])
    @pytest.mark.parametrize("named", ["true", "wav", "txt", "raw"])
    def test_formats_are_told_by_content(self, tmp_path, suffix, format, named):
        path = tmp_path / f"a.{suffix if named == 'true' else named}"
        with open(path, "wb") as file:
            soundfile.write(file, tone(1.0), 16_000, format=format)
        got = audio.read(path)
        assert dominant_frequency(got) == pytest.approx(440, abs=2)
        assert len(got) == pytest.approx(16_000, abs=3000)  # an MP3 begins and ends with silence

    def test_file_objects(self):
        data = wav_bytes((tone() * 32767).astype("<i2").tobytes())

        class Pipe(io.BytesIO):
            def seekable(self):
                return False

            def seek(self, *_):
                raise io.UnsupportedOperation("seek")

        expected = audio.read(io.BytesIO(data))
        np.testing.assert_array_equal(audio.read(Pipe(data), "<stdin>"), expected)
        with pytest.raises(audio.AudioError, match=r"^<stdin> is empty\.$"):
            audio.read(Pipe(b""), "<stdin>")

    def test_sizes_that_the_writer_did_not_know(self):
        data = (tone() * 32767).astype("<i2").tobytes()
        for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFF_F000):
            assert len(audio.read(io.BytesIO(wav_bytes(data, size=size)), "a pipe")) == 8000

    def test_loud_floats_are_scaled_down(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", 3000 * tone(), 16_000, "FLOAT")
        got = audio.read(tmp_path / "a.wav")
        assert np.abs(got).max() == pytest.approx(1)
        np.testing.assert_allclose(got, tone() / np.abs(tone()).max(), atol=1e-6)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"RIFF", "cannot be read as audio"),
            (b"no audio at all, but a text of some length", "cannot be read as audio"),
            (wav_bytes(b""), "too short: 0 samples"),
            (wav_bytes(b"\x01\x02"), "too short: 1 samples at 16000 Hz"),
            (wav_bytes(bytes(2 * 399)), "too short: 399 samples"),
            (wav_bytes(bytes(2000)), "is silent"),
            (wav_bytes(b"\x80" * 2000, bits=8), "is silent"),
            (wav_bytes(b"\x05\x01" * 2000), "is silent"),
            (wav_bytes(b"\x05\x01\x02" * 2000, size=8000), "is truncated: it has 6000 of its 8000 bytes"),
            (wav_bytes(np.full(2000, np.nan, "<f4").tobytes(), bits=32, kind=3), "not finite"),
            (wav_bytes(np.r_[np.zeros(999), np.inf].astype("<f4").tobytes(), bits=32, kind=3), "not finite"),
            (wav_bytes(b"\x05\x01\x02" * 2000, rate=100), "sample rate from 4000 to 768000 Hz. Received: 100"),
            (wav_bytes(b"\x05\x01\x02" * 2000, rate=2_000_000), "Received: 2000000"),
            (b"\x00\x00\x00\x18ftypM4A " + bytes(64), "needs ffmpeg, or the file is corrupt|cannot be read as audio"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_cannot_be_used_is_named_in_one_line(self, tmp_path, content, message):
        path = tmp_path / "speech.wav"
        path.write_bytes(content)
        with pytest.raises(audio.AudioError, match=message) as caught:
            audio.read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    def test_truncated_flac(self, tmp_path, rng):
        path = tmp_path / "a.flac"
        soundfile.write(path, rng.uniform(-1, 1, 40_000), 16_000)
        path.write_bytes(path.read_bytes()[:40_000])
        with pytest.raises(audio.AudioError, match=r"a\.flac (is truncated|cannot be read)"):
            audio.read(path)

    def test_what_is_no_file(self, tmp_path):
        with pytest.raises(audio.AudioError, match=r"gone\.wav cannot be read: No such file"):
            audio.read(tmp_path / "gone.wav")
        with pytest.raises(audio.AudioError, match="cannot be read"):
            audio.read(tmp_path)

    @pytest.mark.filterwarnings("error")  # of what is printed from within libsndfile's calls
    def test_damaged_files_give_samples_or_an_error(self, tmp_path, rng):
        whole = {}
        for format in ("WAV", "FLAC", "OGG", "MP3", "AIFF"):
            file = io.BytesIO()
            soundfile.write(file, rng.uniform(-1, 1, 4000), 16_000, format=format)
            whole[format] = np.frombuffer(file.getvalue(), "uint8")
        errors = []
        for trial in range(200):
            data = list(whole.values())[trial % 5].copy()
            places = rng.integers(0, min(len(data), 200 if trial % 2 else len(data)), 5)
            data[places] = rng.integers(0, 256, 5)
            path = tmp_path / "damaged.wav"
            path.write_bytes(data[: rng.integers(len(data) // 2, len(data) + 1)].tobytes())
            try:
                got = audio.read(path)
                assert np.isfinite(got).all()
                assert np.abs(got).max() <= 1
            except audio.AudioError as error:
                errors.append(str(error))
        assert len(errors) > 50
        assert all(line.startswith(str(path)) and "\n" not in line for line in errors)

    def test_missing_package_names_the_extra(self, tmp_path, monkeypatch):
        path = write_wav(tmp_path / "a.wav", tone(), 8000)
        monkeypatch.setitem(sys.modules, "soundfile", None)
        with pytest.raises(cli.MissingExtra, match=r'Reading audio needs soundfile: pip install "keras-ls\[speech\]"'):
            audio.read(path)


class TestSegments:
    def words(self, rng, count=9):
        """Noise bursts of 0.6 s with pauses of 0.4 s: samples, and where the pauses are in seconds."""
        burst, pause = rng.uniform(-0.5, 0.5, 9600), rng.uniform(-1e-3, 1e-3, 6400)
        return np.concatenate([burst, pause] * count).astype("float32"), [(i + 0.6, i + 1.0) for i in range(count)]

    def test_pieces_make_up_the_file_and_are_cut_in_pauses(self, tmp_path, rng):
        samples, pauses = self.words(rng)
        path = write_wav(tmp_path / "a.wav", samples)
        pieces = list(audio.segments(path, max_seconds=2.5))
        assert len(pieces) >= 4
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), audio.read(path))
        for start, piece in pieces:
            assert len(piece) <= 2.5 * 16_000
            assert start == 0 or any(low <= start <= high for low, high in pauses)

    def test_resampled_in_pieces_as_at_once(self, tmp_path, rng):
        path = write_wav(tmp_path / "a.wav", self.words(rng)[0], 44_100)
        pieces = list(audio.segments(path, max_seconds=1))
        assert len(pieces) > 2
        got, whole = np.concatenate([piece for _, piece in pieces]), audio.read(path)
        assert len(got) == pytest.approx(len(whole), abs=1)
        shared = min(len(got), len(whole))
        np.testing.assert_allclose(got[:shared], whole[:shared], atol=1e-4)

    def test_short_files_are_one_piece(self, tmp_path):
        path = write_wav(tmp_path / "a.wav", tone(1.0, 8000), 8000)
        ((start, piece),) = audio.segments(path)
        assert start == 0
        np.testing.assert_allclose(piece, audio.read(path), atol=1e-4)

    def test_silent_stretches_are_passed_over(self, tmp_path, rng):
        samples = np.concatenate([tone(2.0), np.zeros(16_000 * 12), tone(2.0)])
        starts = [start for start, _ in audio.segments(write_wav(tmp_path / "a.wav", samples), max_seconds=3)]
        assert starts[0] == 0
        assert len(starts) == 2
        assert 11 < starts[1] < 14.1

    def test_memory_does_not_grow_with_the_file(self, tmp_path, rng):
        peaks = []
        for minutes in (1, 10):
            path = tmp_path / f"{minutes}.wav"
            with soundfile.SoundFile(path, "w", 22_050, 1, "PCM_U8") as file:
                for _ in range(minutes):
                    file.write(rng.uniform(-1, 1, 60 * 22_050).astype("float32"))
            tracemalloc.start()
            assert sum(len(piece) for _, piece in audio.segments(path)) == minutes * 60 * 16_000
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.2 * peaks[0] < 60e6

    @pytest.mark.parametrize(
        ("samples", "message"),
        [(np.zeros(90_000), "silent"), (np.zeros(300), "too short"), (np.zeros(0), "too short")],
    )
    def test_nothing_to_hear(self, tmp_path, samples, message):
        with pytest.raises(audio.AudioError, match=rf"a\.wav is {message}"):
            list(audio.segments(write_wav(tmp_path / "a.wav", samples), 1.0))

    @pytest.mark.parametrize("seconds", [0.5, 0, -1, np.nan])
    def test_refused_lengths(self, seconds):
        with pytest.raises(ValueError, match="`max_seconds` must be at least 1"):
            next(audio.segments("a.wav", seconds))


def test_trim():
    np.testing.assert_array_equal(audio.trim(np.array([0, 0, 0.5, 0, 0.1, 0])), [0.5, 0, 0.1])
    assert len(audio.trim(np.zeros(9))) == 0
