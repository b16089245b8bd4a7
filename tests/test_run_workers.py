"""Searches over several processes: each trial is run, whatever dies."""

import socket

import pytest
import searching

from keras_extras.tuners import run_workers, skip_finished_trials


def begun(directory):
    return sorted(path.name.split("_")[1] for path in directory.glob("begun_*"))


def test_trials_are_shared_and_that_of_a_killed_worker_is_run_again(tmp_path):
    restarts = run_workers(
        searching.search,
        workers=2,
        args=(str(tmp_path), 6, "2"),
        timeout=400,
        log_dir=tmp_path / "logs",
    )
    assert sum(restarts.values()) == 1
    assert begun(tmp_path) == ["0", "1", "2", "2", "3", "4", "5"]
    trials = searching.make_tuner(tmp_path, 6).oracle.trials
    assert len(trials) == 6
    assert all(trial.status == "COMPLETED" for trial in trials.values())


@pytest.mark.parametrize(("skips", "comes_next"), [(True, "1"), (False, "0")])
def test_a_search_that_is_taken_up_repeats_no_finished_trial(tmp_path, skips, comes_next):
    """Killed after the end of a trial; once keras-tuner repeats none itself, the hook can go."""
    tuner = searching.make_tuner(tmp_path, 3)
    tuner.save()
    oracle = tuner.oracle
    trial = oracle.create_trial("tuner0")
    oracle.update_trial(trial.trial_id, {"score": 1.0})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)

    oracle = searching.make_tuner(tmp_path, 3).oracle
    oracle.reload()  # as keras-tuner does it, whatever hook other tests have put in place
    if skips:
        skip_finished_trials(oracle)
    assert oracle.create_trial("tuner0").trial_id == comes_next


def test_a_process_that_cannot_work_is_told_with_its_log(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)code 3 after 0 restarts.*nothing works here"):
        run_workers(
            searching.die, args=(str(tmp_path),), timeout=120, max_restarts=0, log_dir=tmp_path
        )


def test_bad_arguments(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="which is in use"):
            run_workers(searching.search, port=taken.getsockname()[1], log_dir=tmp_path)
    for port in (0, 70_000):
        with pytest.raises(ValueError, match="`port` must be at"):
            run_workers(searching.search, port=port, log_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no_such\.py"):
        run_workers(tmp_path / "no_such.py")
    with pytest.raises(TypeError, match=r"must be a function or the path.*NoneType"):
        run_workers(None)
    with pytest.raises(TypeError, match="that other processes can import"):
        run_workers(lambda: None)
    with pytest.raises(ValueError, match="`workers` must be at least 1"):
        run_workers(searching.search, workers=0)
    with pytest.raises(ValueError, match="each of 2 workers"):
        run_workers(searching.search, environments=[{}])
