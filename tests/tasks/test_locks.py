import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tasks.locks import held, lock_file, machine_slot

HOLD = """
import sys, time, pathlib
from tasks.locks import held, machine_slot
folder = pathlib.Path(sys.argv[1])
with {what}:
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder, what):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(what=what), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def takes(manager_factory, seconds):
    """Whether a lock can be had within some seconds."""
    got = threading.Event()

    def take():
        with manager_factory():
            got.set()

    threading.Thread(target=take, daemon=True).start()
    return got.wait(seconds)


def test_a_lock_is_free_at_once_after_kill_9(tmp_path):
    process = holder(tmp_path, "held(folder, 'key.with/odd characters')")
    try:
        assert not takes(lambda: held(tmp_path, "key.with/odd characters"), 0.3)
        assert takes(lambda: held(tmp_path, "key.with.other characters"), 5)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert takes(lambda: held(tmp_path, "key.with/odd characters"), 5)


def test_slots_are_limited_and_a_measurement_wants_all(tmp_path):
    process = holder(tmp_path, "machine_slot(folder, 'cpu', 2, exclusive=False)")
    try:
        assert takes(lambda: machine_slot(tmp_path, "cpu", 2, exclusive=False), 5)
        assert not takes(lambda: machine_slot(tmp_path, "cpu", 2, exclusive=True), 0.3)
        assert takes(lambda: machine_slot(tmp_path, "cuda", 1, exclusive=True), 5)
    finally:
        process.kill()
        process.wait()


def test_waiting_for_a_slot_can_be_given_up(tmp_path):
    started = time.monotonic()

    def check():
        if time.monotonic() - started > 0.2:
            raise KeyboardInterrupt

    with (
        machine_slot(tmp_path, "cpu", 1, exclusive=False),
        pytest.raises(KeyboardInterrupt),
        machine_slot(tmp_path, "cpu", 1, exclusive=False, check=check),
    ):
        pass


def test_names_that_differ_have_files_that_differ(tmp_path):
    names = ["a.b", "a/b", "a", "A", "ab" * 300]
    assert len({lock_file(tmp_path, name) for name in names}) == len(names)
