from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.commands import ENVIRONMENT

CODE = """
import os, signal, sys, time
from splitter.signals import AT_ONCE, Raising, Stopped, Waiting, handle

handler = {"Waiting": Waiting, "Raising": Raising}[sys.argv[1]]()
handle(handler)
try:
    os.kill(os.getpid(), signal.SIGTERM)
    handler.check()
except Stopped as stopped:
    os.kill(os.getpid(), signal.SIGHUP)
    print("cleaned up after", stopped.number, flush=True)
time.sleep(AT_ONCE)
os.kill(os.getpid(), signal.SIGTERM)
print("still there")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
@pytest.mark.parametrize("handler", ["Waiting", "Raising"])
def test_signals_that_come_at_once_are_one_and_a_later_one_ends_the_process(handler: str) -> None:
    """As timeout(1) sends its own to the process and to its group."""
    command = [sys.executable, "-c", CODE, handler]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"cleaned up after {int(signal.SIGTERM)}\n", "")
    assert done.returncode == 143
