"""Reading audio for the speech demo: every format to 16 kHz mono, and one clear line for what cannot be used."""

import io
import os
import shutil
import struct
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from speech_files import dominant_frequency, tone, wav_bytes, write_wav

from demos.kit.errors import MissingExtra
from demos.speech.sound import audio

soundfile = pytest.importorskip("soundfile", reason="reading audio needs soundfile")
librosa = pytest.importorskip("librosa", reason="resampling audio needs librosa")
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")

ADTS = b"\xff\xf1"  # how raw AAC begins


def encoded(samples, format, **options):
    """A 16 kHz file's bytes by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format=format, **options)
    return file.getvalue()


def by_ffmpeg(path, samples, *options):
    """A file that ffmpeg makes of 16 kHz samples (n,) or (n, channels)."""
    command = ["ffmpeg", "-v", "error", "-f", "wav", "-i", "-", *options, str(path)]
    subprocess.run(command, input=encoded(samples, "WAV"), check=True)
    return path


@pytest.fixture
def fifo(tmp_path):
    """Makes named pipes that give some bytes once."""
    threads = []

    def make(data):
        path = tmp_path / f"fifo{len(threads)}"
        os.mkfifo(path)
        threads.append(threading.Thread(target=path.write_bytes, args=[data]))
        threads[-1].start()
        return path

    yield make
    for thread in threads:
        thread.join()


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

    def test_sizes_of_zero_before_samples(self, tmp_path):
        data = (tone() * 32767).astype("<i2").tobytes()
        wav = wav_bytes(data, size=0)
        ds64 = struct.pack("<4sI28x", b"ds64", 28)
        rf64 = b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + wav[12:36] + b"data" + b"\xff" * 4 + data
        path = tmp_path / "a.wav"
        for content in (wav, rf64):
            path.write_bytes(content)
            assert len(audio.read(path)) == len(audio.read(io.BytesIO(content))) == 8000
            assert path.read_bytes() == content
        path.write_bytes(wav_bytes(b"", size=0) + b"id3 " + struct.pack("<I", 4000) + bytes(range(200)) * 20)
        with pytest.raises(audio.AudioError, match="too short: 0 samples"):
            audio.read(path)

    def test_flac_of_unknown_length(self, tmp_path):
        data = bytearray(encoded(tone(3.0), "FLAC"))
        data[21] &= 0xF0  # the length is the 36 bits up to here
        data[22:26] = bytes(4)
        path = tmp_path / "a.wav"
        path.write_bytes(data)
        for got in (audio.read(path), audio.read(io.BytesIO(data), "a pipe")):
            np.testing.assert_allclose(got, tone(3.0), atol=1e-4)

    def test_named_pipes(self, fifo):
        np.testing.assert_allclose(audio.read(fifo(encoded(tone(), "WAV"))), tone(), atol=1e-4)
        with pytest.raises(audio.AudioError, match=r"fifo1 is truncated"):
            audio.read(fifo(encoded(tone(), "WAV")[:-2]))

    def test_a_quiet_recording(self, tmp_path):
        got = audio.read(write_wav(tmp_path / "a.wav", tone(level=4e-3)))
        assert np.abs(got).max() == pytest.approx(4e-3, abs=1e-4)

    def test_loud_floats_are_scaled_down(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", 3000 * tone(), 16_000, "FLOAT")
        got = audio.read(tmp_path / "a.wav")
        assert np.abs(got).max() == pytest.approx(1)
        np.testing.assert_allclose(got, tone() / np.abs(tone()).max(), atol=1e-6)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"RIFF", "is truncated: it has 4 of its 12 bytes"),
            (b"no audio at all, but a text of some length", "cannot be read as audio"),
            (wav_bytes(b""), "too short: 0 samples"),
            (wav_bytes(b"\x01\x02"), "too short: 1 samples at 16000 Hz"),
            (wav_bytes(bytes(2 * 399)), "too short: 399 samples"),
            (wav_bytes(bytes(2000)), "is silent"),
            (wav_bytes(b"\x80" * 2000, bits=8), "is silent"),
            (wav_bytes(b"\x05\x01" * 2000), "is silent: "),
            (wav_bytes(b"\x01\x00\xff\xff" * 2000), "is silent: "),
            (wav_bytes((0.3 + tone(level=5e-5)).tobytes(), bits=32, kind=3), "is silent: "),
            (wav_bytes(tone(level=2e-34).tobytes(), bits=32, kind=3), "is silent: "),
            (wav_bytes(b"\x05\x01\x02" * 2000, size=8000), "is truncated: it has 6044 of its 8044 bytes"),
            (wav_bytes(np.full(2000, np.nan, "<f4").tobytes(), bits=32, kind=3), "not finite"),
            (wav_bytes(np.r_[np.zeros(999), np.inf].astype("<f4").tobytes(), bits=32, kind=3), "not finite"),
            (wav_bytes(b"\x05\x01\x02" * 2000, rate=100), "sample rate from 4000 to 768000 Hz. Received: 100"),
            (wav_bytes(b"\x05\x01\x02" * 2000, rate=2_000_000), "Received: 2000000"),
            (ADTS, "read by ffmpeg, which is not installed|cannot be read as audio"),
            (b"#!AMR", "read by ffmpeg, which is not installed|cannot be read as audio"),
            (b"\x00\x00\x00\x18ftypM4A " + bytes(64), "read by ffmpeg, which is not installed|cannot be read as audio"),
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

    @pytest.mark.parametrize(
        ("format", "subtype"),
        [
            ("MP3", None),
            ("OGG", "VORBIS"),
            ("OGG", "OPUS"),
            ("WAV", None),
            ("RF64", None),
            ("W64", None),
            ("AIFF", None),
            ("AU", None),
        ],
    )
    def test_truncated(self, tmp_path, rng, format, subtype):
        path = tmp_path / "a.bin"
        whole = encoded(rng.uniform(-0.5, 0.5, 48_000), format, subtype=subtype)
        path.write_bytes(whole)
        assert len(audio.read(path)) == pytest.approx(48_000, abs=1700)
        for share in (0.3, 0.6, 0.9):
            path.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(audio.AudioError, match=r"a\.bin is truncated"):
                audio.read(path)

    @needs_ffmpeg
    def test_mp3_whose_length_is_overestimated(self, tmp_path, rng):
        # Without a Xing header libsndfile goes by the bit rate of the first frame, here a low one.
        samples = np.concatenate([np.zeros(48_000), rng.uniform(-0.5, 0.5, 48_000)])
        path = by_ffmpeg(tmp_path / "a.mp3", samples, "-write_xing", "0", "-q:a", "5")
        assert soundfile.info(path).frames > 100_000
        assert len(audio.read(path)) == pytest.approx(96_000, abs=3500)

    def test_truncated_mp3_with_a_tag_of_some_length(self, tmp_path, rng):
        whole = b"ID3\x04\0\0\0\x06\0\0" + bytes(6 << 14) + encoded(rng.uniform(-0.5, 0.5, 48_000), "MP3")
        path = tmp_path / "a.mp3"
        path.write_bytes(whole)
        assert len(audio.read(path)) == 48_000
        path.write_bytes(whole[:-3000])
        with pytest.raises(audio.AudioError, match="is truncated"):
            audio.read(path)

    @pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
    def test_ogg_with_a_hole(self, tmp_path, rng, subtype):
        whole = bytearray(encoded(rng.uniform(-0.5, 0.5, 160_000), "OGG", subtype=subtype))
        whole[len(whole) // 2 : len(whole) * 2 // 3] = rng.bytes(len(whole) * 2 // 3 - len(whole) // 2)
        path = tmp_path / "a.ogg"
        path.write_bytes(whole)
        with pytest.raises(audio.AudioError, match=r"a\.ogg (is truncated or corrupt: |cannot be read as)"):
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
        with pytest.raises(MissingExtra, match=r'Reading audio needs soundfile: pip install -e "\.\[speech\]"'):
            audio.read(path)


class TestFFmpeg:
    @needs_ffmpeg
    @pytest.mark.parametrize(
        ("format", "codec"), [("ipod", "aac"), ("adts", "aac"), ("webm", "libopus"), ("asf", "wmav2"), ("mp4", "aac")]
    )
    def test_paths_pipes_and_file_objects(self, tmp_path, fifo, format, codec):
        path = by_ffmpeg(tmp_path / "-a:b.wav", tone(2.0), "-f", format, "-c:a", codec, "-ar", "48000")
        data = path.read_bytes()
        expected = audio.read(path)
        assert len(expected) == pytest.approx(32_000, abs=3000)
        assert dominant_frequency(expected) == pytest.approx(440, abs=2)
        for source in (io.BytesIO(data), fifo(data)):
            np.testing.assert_array_equal(audio.read(source), expected)

    @needs_ffmpeg
    def test_channels_are_mixed_down(self, tmp_path):
        stereo = np.stack([tone(1.0, hertz=300)] * 2, 1)
        got = audio.read(by_ffmpeg(tmp_path / "a.m4a", stereo, "-c:a", "alac"))
        np.testing.assert_allclose(got, tone(1.0, hertz=300), atol=1e-3)

    @needs_ffmpeg
    @pytest.mark.parametrize("options", [("-f", "adts"), ("-f", "webm"), ("-f", "mp4", "-movflags", "faststart")])
    def test_truncated(self, tmp_path, rng, options):
        path = by_ffmpeg(tmp_path / "a.bin", rng.uniform(-0.5, 0.5, 48_000), *options)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(audio.AudioError, match=r"a\.bin cannot be read as audio: \w") as caught:
            audio.read(path)
        assert "\n" not in str(caught.value)

    @needs_ffmpeg
    def test_no_sound_in_a_video(self, tmp_path):
        path = tmp_path / "a.mp4"
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=d=1", str(path)], check=True)
        with pytest.raises(audio.AudioError, match=r"a\.mp4 cannot be read as audio: .*stream"):
            audio.read(path)

    def ffmpeg_that(self, folder, monkeypatch, script):
        program = folder / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    def test_failing_after_some_samples(self, tmp_path, monkeypatch):
        self.ffmpeg_that(tmp_path, monkeypatch, "head -c 400001 /dev/urandom | tr '\\200-\\377' '\\000-\\177'; exit 3")
        (tmp_path / "a.aac").write_bytes(ADTS)
        with pytest.raises(audio.AudioError, match=r"a\.aac cannot be read as audio: ffmpeg failed with status 3"):
            audio.read(tmp_path / "a.aac")

    def test_memory_does_not_grow_with_the_file(self, tmp_path, monkeypatch):
        (tmp_path / "a.aac").write_bytes(ADTS)
        self.ffmpeg_that(tmp_path, monkeypatch, "yes '= =!=\"=' | head -c 100000000; echo $$ >&2")
        tracemalloc.start()
        pieces = audio.segments(tmp_path / "a.aac")
        with pytest.raises(audio.AudioError, match=r"a\.aac cannot be read as audio: \d+$"):
            assert sum(len(piece) for _, piece in pieces) > 0
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6

    def test_without_ffmpeg(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        (tmp_path / "a.aac").write_bytes(ADTS)
        with pytest.raises(audio.AudioError, match=r"a\.aac is in a format that is read by ffmpeg, which is not inst"):
            audio.read(tmp_path / "a.aac")


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
        [
            (np.zeros(90_000), "silent: "),
            (np.full(90_000, 0.3), "silent: "),
            (np.resize([1 / 32767, -1 / 32767], 90_000), "silent: "),
            (np.zeros(300), "too short: 300"),
            (np.zeros(0), "too short: 0"),
        ],
    )
    @pytest.mark.parametrize("rate", [16_000, 22_050])
    def test_nothing_to_hear(self, tmp_path, samples, message, rate):
        with pytest.raises(audio.AudioError, match=rf"a\.wav is {message}"):
            list(audio.segments(write_wav(tmp_path / "a.wav", samples, rate), 1.0))

    def test_near_silence_before_sound_is_passed_over(self, tmp_path):
        faint = np.resize([1 / 32767, -1 / 32767], 16_000 * 6)
        path = write_wav(tmp_path / "a.wav", np.concatenate([faint, tone(1.0, level=4e-3)]))
        ((start, piece),) = audio.segments(path, max_seconds=3)
        assert start > 3
        assert np.abs(piece).max() == pytest.approx(4e-3, abs=1e-4)

    @pytest.mark.parametrize("seconds", [0.5, 0, -1, np.nan])
    def test_refused_lengths(self, seconds):
        with pytest.raises(ValueError, match="`max_seconds` must be at least 1"):
            next(audio.segments("a.wav", seconds))


def test_trim():
    np.testing.assert_array_equal(audio.trim(np.array([0, 0, 0.5, 0, 0.1, 0])), [0.5, 0, 0.1])
    assert len(audio.trim(np.zeros(9))) == 0
