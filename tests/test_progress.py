"""Progress of stages: on a terminal a line that moves, in a log nothing."""

import os
import subprocess
import sys

import pytest

from tests.project import ROOT

SHOWN = """
import time
from pipelines.progress import progress
with progress("replies of base") as show:
    if show:
        show(50, 200)
        time.sleep(0.3)
        show(100, 200)
        time.sleep(0.3)
@progress("checking the mixture")
def main():
    time.sleep(0.2)
main()
print("end")
"""


def test_a_log_stays_empty() -> None:
    done = subprocess.run([sys.executable, "-c", SHOWN], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("end\n", "")


@pytest.mark.skipif(os.name == "nt", reason="pseudo terminals are of POSIX")
def test_a_terminal_shows_what_goes_on_and_how_much_is_done() -> None:
    import pty

    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen([sys.executable, "-c", SHOWN], cwd=ROOT, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:
        pass  # Linux ends the reading of a closed pseudo terminal so.
    assert running.wait() == 0
    text = shown.decode()
    assert "replies of base" in text
    assert "100/200" in text
    assert "s left" in text
    assert "checking the mixture" in text
    assert text.rstrip().endswith("end")
