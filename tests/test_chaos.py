"""Some of the kills of `chaos.py`, which makes as many as one likes."""

import random

import pytest
from chaos import Chaos, read, serving


@pytest.mark.parametrize("run", ["fit", "download"])
def test_a_killed_run_ends_as_if_left_alone(run, tmp_path):
    with serving(tmp_path):
        chaos = Chaos(run, tmp_path, random.Random(1))
        chaos.kill(1)
    assert (chaos.kills, chaos.differences, chaos.half_files) == (1, [], [])


def test_two_processes_share_a_cache(tmp_path):
    with serving(tmp_path):
        chaos = Chaos("download", tmp_path, random.Random(0))
        folder = chaos.new_folder()
        processes = [chaos.start(folder) for _ in range(2)]
        for process in processes:
            process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (read(folder)[0] == chaos.expected[0]).all()
    assert [path.name for path in (folder / "datasets").iterdir()] == ["events.csv.gz"]
