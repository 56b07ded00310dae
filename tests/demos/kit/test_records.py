"""JSON files of a run: read back with checks, written as a whole or not at all."""

import os
import subprocess
import sys

import pytest

from demos.kit import records
from demos.kit.errors import DamagedFile

FIELDS = {"accuracy": float, "name": str, "steps": [int], "curve": {"count": [(float, None)]}}
WHOLE = '{"accuracy": 1, "name": "a", "steps": [1, 2], "curve": {"count": [0.5, null]}, "more": true}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "it lacks 'accuracy'"),
        ("null", "the whole is 'None', not dict"),
        ("[1]", ", not dict"),
        ("", "Expecting value"),
        ("[" * 100_000, "is damaged"),
        (WHOLE[:-9], "is damaged"),
        (WHOLE.replace("1,", "true,", 1), "accuracy is 'True', not float"),
        (WHOLE.replace('"a"', "3"), "name is '3', not str"),
        (WHOLE.replace("[1, 2]", "[1, 2.5]"), "steps is '2.5', not int"),
        (WHOLE.replace("null", '"x"'), "count is 'x', not float"),
        ("\ufffe\x00", "is damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, message):
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DamagedFile) as error:
        records.read_json(path, FIELDS)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_a_whole_file_is_read(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(WHOLE)
    assert records.read_json(path, FIELDS)["curve"] == {"count": [0.5, None]}


def test_what_is_no_file_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    os.symlink("/dev/zero", tmp_path / "endless")
    for name in ("folder", "pipe", "endless"):
        with pytest.raises(DamagedFile, match="it is not a regular file"):
            records.read_json(tmp_path / name)
    monkeypatch.setattr(records, "LARGEST_FILE", 10)
    (tmp_path / "huge").write_text(WHOLE)
    with pytest.raises(DamagedFile, match="bytes"):
        records.read_json(tmp_path / "huge")
    with pytest.raises(ValueError, match=r"not the directory of a run: absent\.json is missing"):
        records.read_json(tmp_path / "absent.json")


def test_names_of_files_that_are_not_utf_8_come_back_as_they_were(tmp_path):
    value = {"path": "caf\udce9/Zoë.wav", "name": "Zoë"}
    records.write_json(tmp_path / "a.json", value)
    assert records.read_json(tmp_path / "a.json") == value
    records.write_json(tmp_path / "b.json", {"name": "Zoë"})
    assert "Zoë" in (tmp_path / "b.json").read_text(encoding="utf-8")
    records.write_text(tmp_path / "c.txt", value["path"])
    assert (tmp_path / "c.txt").read_text(encoding="utf-8") == "caf\\udce9/Zoë.wav"


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "b.json"
    records.write_json(path, {"a": [1, float("nan"), {"b": float("inf")}], "c": (1, 2)})
    assert records.read_json(path) == {"a": [1, None, {"b": None}], "c": [1, 2]}

    def full(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        records.write(path, full)
    assert records.read_json(path)["c"] == [1, 2]
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_files_are_on_the_disk_before_they_have_their_names(tmp_path, monkeypatch):
    path, synced, sync = tmp_path / "model.keras", [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append((os.fstat(file).st_ino, path.exists())), sync(file)))

    def save(temporary):
        assert temporary.suffix == ".keras"
        temporary.write_bytes(b"whole")

    records.write_as(path, save)
    assert path.read_bytes() == b"whole"
    assert synced == [(path.stat().st_ino, False)]


def test_what_was_left_unfinished_is_deleted(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [f"result.json.{gone.pid}.part", f"result.json.{gone.pid}.part.json", "a/b/model.keras.4194304.part.keras"]
    kept = ["result.json", "video.part", "of/another/run/.lock", f"of/another/run/result.json.{gone.pid}.part.json"]
    kept += [f"curves.png.{os.getpid()}.part.png"]  # of one that is at work
    kept += [f"teacher_logits.npy.{'0123456789' * 3}01.part"]  # with which keras_ls goes on
    kept += [f"clock.json.{os.getppid()}.part.json"]  # of the process that started this one
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    records.remove_leftovers(tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)
