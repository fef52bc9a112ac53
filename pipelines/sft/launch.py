"""Training on several processes: one for each GPU, or several on a CPU, by ``accelerate launch``."""

from __future__ import annotations

import os
import subprocess
import sys

from curation.errors import HeartwoodError


def launched() -> bool:
    """Whether a launcher (``accelerate launch``, ``torchrun``) has started this process as one of several."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank() -> int:
    """The number of this process among those of the launch; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def launch_processes(module: str, processes: int) -> None:
    """Run ``module`` on ``processes`` processes of this machine and wait for them.

    Raises HeartwoodError when one of them fails; its own message stands above.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += ["--multi_gpu"]
    done = subprocess.run([*command, "--module", module], check=False)
    if done.returncode:
        raise HeartwoodError(
            f"training on {processes} processes failed (exit code {done.returncode}); the reason stands above",
            hint="mend it and run the stage again: it goes on from its newest checkpoint",
        )
