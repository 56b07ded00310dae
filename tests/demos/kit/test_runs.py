"""The output directory of a run: one process at a time, always with the same settings."""

import errno
import json
import os
import pathlib
import subprocess
import sys

import pytest

from demos.kit import locks, runs
from demos.kit.errors import DamagedFile

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _unlocked():
    yield
    runs.unlock()


def open_run(*arguments):
    """Opens a run as a process does that has the directory for itself."""
    runs.unlock()
    return runs.open_run(*arguments)


def test_a_second_process_is_refused_until_the_first_ends(tmp_path):
    out = tmp_path / "out"
    code = (
        f"from demos.kit import runs; import pathlib; runs.open_run(pathlib.Path({str(out)!r}), {{}}, False); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    try:
        while not (out / "settings.json").exists():
            assert other.poll() is None
        for resume in (False, True):
            with pytest.raises(ValueError, match="Another run is at work in"):
                open_run(out, {}, resume)
    finally:
        other.kill()
        other.wait()
    assert open_run(out, {}, True).is_known
    assert not (tmp_path / "out.1").exists()


def test_settings_must_be_the_same_to_go_on(tmp_path):
    out = tmp_path / "out"
    assert not open_run(out, {"steps": 3, "hidden": (4, 5)}, False).is_known
    assert open_run(out, {"steps": 3, "hidden": [4, 5]}, True).is_known
    with pytest.raises(ValueError, match=r"hidden was \[4, 5\], now \[4\]; steps was 3, now 4"):
        open_run(out, {"steps": 4, "hidden": [4]}, True)


def test_a_new_option_with_a_default_is_no_difference(tmp_path):
    out = tmp_path / "out"
    open_run(out, {"steps": 3}, False)
    assert open_run(out, {"steps": 3, "warmup": 0}, True, {"warmup": 0}).is_known
    with pytest.raises(ValueError, match="warmup was 0, now 5"):
        open_run(out, {"steps": 3, "warmup": 5}, True, {"warmup": 0})


@pytest.mark.parametrize("content", ["{}", "null", "[", "folder"])
def test_damaged_settings_are_one_line(tmp_path, content):
    path = tmp_path / "settings.json"
    path.mkdir() if content == "folder" else path.write_text(content)
    with pytest.raises(ValueError, match=r"settings\.json is damaged|was None, now 3") as error:
        open_run(tmp_path, {"steps": 3}, True)
    assert "\n" not in str(error.value)


def test_an_earlier_run_is_moved_aside_unless_it_goes_on(tmp_path):
    out = tmp_path / "out"
    for steps in (1, 2, 3):
        open_run(out, {"steps": steps}, False)
    found = [json.loads((tmp_path / name / "settings.json").read_text())["steps"] for name in ("out.1", "out.2", "out")]
    assert found == [1, 2, 3]


def test_a_run_that_goes_on_deletes_what_a_kill_left_unfinished(tmp_path):
    open_run(tmp_path, {"steps": 3}, False)
    left = tmp_path / "a" / "result.json.4194304.part.json"  # no process has such a number
    left.parent.mkdir()
    left.touch()
    open_run(tmp_path, {"steps": 3}, True)
    assert not left.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_locks_a_run_goes_on_with_one_note(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    for _ in range(2):
        open_run(tmp_path / "out", {}, False)
    notes = [line for line in capsys.readouterr().out.splitlines() if "locked" in line]
    assert notes == [f"Note: files cannot be locked in {tmp_path / 'out'}: let no other process work there meanwhile."]


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="lists open files")
def test_on_windows_no_file_is_open_in_a_run_that_is_moved_aside(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "fcntl", None)
    locks._say_that_there_are_none.cache_clear()
    rename = pathlib.Path.rename

    def of_windows(path, target):
        opened = [os.readlink(link) for link in pathlib.Path("/proc/self/fd").iterdir() if link.exists()]
        assert not [each for each in opened if each.startswith(f"{path}/")]
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", of_windows)
    for _ in range(2):
        open_run(tmp_path / "out", {}, False)
    assert (tmp_path / "out.1" / "settings.json").exists()
    assert "files cannot be locked" in capsys.readouterr().out


def test_a_directory_without_a_name_cannot_be_moved_aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_run(pathlib.Path("."), {}, False)
    open_run(pathlib.Path("."), {}, True)
    with pytest.raises(ValueError, match="--out must not be a directory that has no name"):
        open_run(pathlib.Path("."), {}, False)


def test_an_earlier_run_that_cannot_be_moved_aside_is_named(tmp_path, monkeypatch):
    def rename(path, target):
        raise OSError(errno.EBUSY, "Device or resource busy")

    out = tmp_path / "out"
    open_run(out, {}, False)
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(ValueError, match="--out must not be a link to a directory with an earlier run in it"):
        open_run(tmp_path / "link", {}, False)
    open_run(tmp_path / "link", {}, True)
    monkeypatch.setattr(pathlib.Path, "rename", rename)
    with pytest.raises(ValueError, match=r"out cannot be moved to .*out\.1 \(Device or resource busy\): give --resume"):
        open_run(out, {}, False)


def test_a_run_that_should_go_on_and_is_not_there_is_noted(tmp_path, capsys):
    for _ in range(2):
        open_run(tmp_path / "out", {}, True)
    assert capsys.readouterr().out == f"Note: there is no run in {tmp_path / 'out'} to go on with; one begins there.\n"


def test_an_output_directory_must_not_hold_the_data(tmp_path, monkeypatch):
    for out, data in ((".", "."), (".", "pets/train"), (".", "speech.csv")):
        with pytest.raises(ValueError, match="--out must not be the directory of --data-dir, nor hold it"):
            runs.check_apart(tmp_path / out, {"--data-dir": str(tmp_path / data)})
    runs.check_apart(tmp_path / "out", {"--data-dir": str(tmp_path), "--cache-dir": None})
    monkeypatch.setenv("KERAS_LS_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match=r"--out must not be the directory of \$KERAS_LS_DATA, nor hold it"):
        runs.check_apart(tmp_path, {})


def test_other_errors_of_locks_are_errors(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        open_run(tmp_path / "out", {}, False)


def trained_with(backend, device="CPU (2 cores)", **versions):
    """What a result says of what its network was trained with."""
    versions = {"python": "3.11.2", "keras": "3.15.0", **versions}
    return {"seed": 0, "backend": backend, "device": device, "versions": versions}


def test_a_table_says_where_its_networks_were_trained_with_different_things(tmp_path, capsys):
    def published(trials, networks=None):
        results = {"experiment": "demos.a", "title": "title", "trials": trials, "pictures": []}
        runs.publish(runs.Run(tmp_path, {}), results, lambda _: "table", None, "table.txt", networks=networks)
        text = (tmp_path / "table.txt").read_text()
        assert text in capsys.readouterr().out
        return text

    alike = [trained_with("jax", jax="0.10.0")] * 2
    other = trained_with("tensorflow", "GPU", tensorflow="2.21.0", keras="3.16.0")
    line = (
        "Networks were trained with jax 0.10.0 (2), tensorflow 2.21.0 (1); CPU (2 cores) (2), GPU (1); "
        "keras 3.15.0 (2), keras 3.16.0 (1)."
    )
    assert published(alike) == published([{"seed": 0}]) == "title\n\ntable\n"
    assert published([*alike, other]) == f"title\n\ntable\n\n{line}\n"
    assert published([{"seed": 0}], [*alike, other]).splitlines()[-1] == line


def test_results_of_another_demo_of_the_same_networks_are_kept(tmp_path, capsys):
    def publish(experiment, title):
        results = {"experiment": experiment, "title": title, "trials": [], "pictures": []}
        runs.publish(runs.Run(tmp_path, {}), results, lambda _: "table", None)
        return capsys.readouterr().out

    def title(name):
        return json.loads((tmp_path / name).read_text())["title"]

    (tmp_path / "results.json").write_text("damaged")
    assert "Note" not in publish("demos.image.calibration", "first") + publish("demos.image.calibration", "second")
    note = f"Note: the results of demos.image.calibration are now in {tmp_path / 'calibration.json'}.\n"
    assert publish("demos.image.projection", "third").startswith(note)
    assert (title("calibration.json"), title("results.json")) == ("second", "third")
    publish("demos.image.calibration", "fourth")
    assert (title("projection.json"), title("results.json")) == ("third", "fourth")
    assert not (tmp_path / "calibration.json").exists()


def test_settings_that_fit_no_result_are_not_kept(tmp_path):
    run = open_run(tmp_path, {"steps": 3}, True)
    with pytest.raises(DamagedFile):
        run.check(tmp_path / "a", {"steps": 4})
    assert open_run(tmp_path, {"steps": 4}, True).settings == {"steps": 4}


def test_files_of_other_settings_are_refused(tmp_path):
    known, unknown = (runs.Run(tmp_path, {"steps": 3}, is_known=is_known) for is_known in (True, False))
    for run in (known, unknown):
        run.check(tmp_path / "a", {"steps": 3})
        with pytest.raises(DamagedFile, match="a was made with other settings: steps was 4, now 3"):
            run.check(tmp_path / "a", {"steps": 4})
    known.check(tmp_path / "a", None)  # files of earlier versions say nothing
    with pytest.raises(DamagedFile, match=r"does not say what settings .* settings\.json was not there"):
        unknown.check(tmp_path / "a", None)
