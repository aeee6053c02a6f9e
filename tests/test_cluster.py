"""The batch scripts without SLURM: bash runs them with a pretended `srun` and `scontrol` on PATH.

Most tests pretend the library too: a program that keeps the contract of `messi train` (a file STOP
ends it with a state saved and status 0) or of `messi notebooks` (130 after a signal). One test
trains for real.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from messi_lib.runs import root

SRUN = r"""#!/bin/bash
echo "$*" >>"$CALLS/srun"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = r"""#!/bin/bash
if [ "$1 $2" = "show hostnames" ]; then
    printf '%s\n' ${3//,/ }
else
    echo "$*" >>"$CALLS/scontrol"
fi
"""
# Ten steps; the state is their number. $MANNERS: good, deaf (to STOP), fails, fails-late (on STOP).
TRAINING = r"""#!/bin/bash
echo "$*" >>"$CALLS/python"
folder=$MESSI_RUNS/big
mkdir -p "$folder"
sleep "${STARTUP:-0}"
rm -f "$folder/STOP" # from a job that has ended
step=$(cat "$folder/state" 2>/dev/null || echo 0)
echo "step $step"
[ "$MANNERS" = fails ] && exit 3
while [ "$step" -lt 10 ]; do
    sleep 0.1
    step=$((step + 1))
    [ "$MANNERS" = deaf ] && step=1
    echo "$step" >"$folder/state"
    if [ -e "$folder/STOP" ] && [ "$MANNERS" != deaf ]; then
        [ "$MANNERS" = fails-late ] && exit 3
        rm "$folder/STOP"
        echo "honoured STOP"
        exit 0
    fi
done
echo "finished"
"""
NOTEBOOKS = r"""#!/bin/bash
echo "$*" >>"$CALLS/messi"
trap 'echo "heard USR1"; exit ${ON_SIGNAL:-130}' USR1
trap 'echo "heard TERM"; exit 130' TERM
echo "begun"
for _ in {1..10}; do sleep 0.1; done
exit ${AT_END:-0}
"""


class Cluster:
    """Pretended nodes: folders, environment and what the scripts have called."""

    def __init__(self, folder: Path):
        self.folder, self.calls, self.runs = folder, folder / "calls", folder / "runs"
        venv = folder / "venv" / "bin"
        for made in (self.calls, self.runs, venv, folder / "bin"):
            made.mkdir(parents=True)
        programs = {
            folder / "bin" / "srun": SRUN,
            folder / "bin" / "scontrol": SCONTROL,
            venv / "python": TRAINING,
            venv / "messi": NOTEBOOKS,
        }
        for path, text in programs.items():
            path.write_text(text)
            path.chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "MESSI_"))}
        self.plain = kept | {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "MESSI_VENV": str(venv.parent),
            "MESSI_RUNS": str(self.runs),
        }
        self.slurm = self.plain | {
            "SLURM_JOB_ID": "4242",
            "SLURM_JOB_NODELIST": "node1,node2",
            "SLURM_NNODES": "2",
            "SLURM_GPUS_ON_NODE": "4",
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_SUBMIT_DIR": str(folder),
        }

    def called(self, program: str) -> list[str]:
        path = self.calls / program
        return path.read_text().splitlines() if path.exists() else []

    def job(self, script, *arguments, env, send=None, after="step", limit=60) -> tuple[int, str]:
        """Exit status and output; the signal `send` comes once the output contains `after`."""
        log = self.folder / "log"
        command = ["bash", root() / "cluster" / script, *arguments]
        with open(log, "w") as file:
            process = subprocess.Popen(command, env=env, stdout=file, stderr=file)
            try:
                if send is not None:
                    end = time.monotonic() + limit
                    while after not in log.read_text():
                        assert process.poll() is None and time.monotonic() < end, log.read_text()
                        time.sleep(0.05)
                    process.send_signal(send)
                return process.wait(timeout=limit), log.read_text()
            finally:
                if process.poll() is None:  # a failing test; the script ends what it has started
                    process.terminate()
                    process.wait(timeout=limit)


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path)


TRAIN = ("train.sbatch", "consistency", "--profile", "gpu", "--run", "big")


# --- trainings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [("--run", "big"), ("--run=big",)])
def test_a_training_out_of_time_is_stopped_and_goes_on_in_the_next_job(cluster, name):
    command = ("train.sbatch", "consistency", *name, "--profile", "gpu")
    status, output = cluster.job(*command, env=cluster.slurm, send=signal.SIGUSR1)
    assert status == 0 and "honoured STOP" in output and "finished" not in output
    assert cluster.called("scontrol") == ["requeue 4242"], "exactly once"
    assert not (cluster.runs / "big" / "STOP").exists(), "the next job must not find it"
    reached = int((cluster.runs / "big" / "state").read_text())

    status, output = cluster.job(*command, env=cluster.slurm)
    assert status == 0 and f"step {reached}\n" in output and "finished" in output
    assert cluster.called("scontrol") == ["requeue 4242"], "a finished training stays out"
    first, second = cluster.called("python")
    assert first == second, "the same command"


def test_the_request_reaches_a_training_that_had_not_begun_yet(cluster):
    env = cluster.slurm | {"STARTUP": "1.5"}  # then it removes what it takes for an old request
    status, output = cluster.job(*TRAIN, env=env, send=signal.SIGUSR1, after="messi train")
    assert status == 0 and "honoured STOP" in output
    assert cluster.called("scontrol") == ["requeue 4242"]


@pytest.mark.parametrize(("manners", "send"), [("fails", None), ("fails-late", signal.SIGUSR1)])
def test_a_failure_is_passed_on_and_not_queued_again(cluster, manners, send):
    status, _ = cluster.job(*TRAIN, env=cluster.slurm | {"MANNERS": manners}, send=send)
    assert status == 3
    assert cluster.called("scontrol") == []


def test_a_training_that_does_not_stop_is_ended_and_queued_again(cluster):
    env = cluster.slurm | {"MANNERS": "deaf", "MESSI_GRACE": "1"}
    status, output = cluster.job(*TRAIN, env=env, send=signal.SIGUSR1)
    assert status == 0 and "goes on from its last state" in output
    assert cluster.called("scontrol") == ["requeue 4242"]


def test_a_job_that_cannot_go_back_into_the_queue_fails(cluster):
    (cluster.folder / "bin" / "scontrol").write_text('#!/bin/bash\n[ "$1" = show ]\n')
    status, _ = cluster.job(*TRAIN, env=cluster.slurm, send=signal.SIGUSR1)
    assert status == 1


def test_one_launcher_per_node_and_one_process_per_gpu(cluster):
    assert cluster.job(*TRAIN, "--batch", "8", env=cluster.slurm)[0] == 0
    (srun,), (python,) = cluster.called("srun"), cluster.called("python")
    step = "--nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=8 --kill-on-bad-exit=1 "
    assert srun == f"{step}{cluster.folder}/venv/bin/python {python}"
    assert python == (
        "-m torch.distributed.run --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d "
        "--rdzv_id=4242 --rdzv_endpoint=node1:14242 "
        "-m -- messi_lib.cli train consistency --profile gpu --run big --batch 8"
    )


@pytest.mark.parametrize("send", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_without_slurm_a_signal_stops_the_training_in_order(cluster, send):
    status, output = cluster.job(*TRAIN, env=cluster.plain | {"MESSI_PROCESSES": "2"}, send=send)
    assert status == (0 if send == signal.SIGUSR1 else 143)
    assert "honoured STOP" in output and "the same command goes on" in output
    (python,) = cluster.called("python")
    assert "--nnodes=1 --nproc_per_node=2 --standalone -m -- messi_lib.cli train" in python
    assert cluster.called("srun") == cluster.called("scontrol") == []


@pytest.mark.parametrize(
    ("arguments", "changed", "complaint"),
    [
        (["consistency"], {}, "--run NAME"),
        (["consistency", "--run"], {}, "--run NAME"),
        (["consistency", "--run", "a"], {"MESSI_PROCESSES": "two"}, "MESSI_PROCESSES=two"),
        (["consistency", "--run", "a"], {"MESSI_VENV": "none"}, "make env"),
    ],
)
def test_bad_input_is_one_line(cluster, arguments, changed, complaint):
    status, output = cluster.job("train.sbatch", *arguments, env=cluster.slurm | changed)
    assert status == 2
    assert output.startswith("train.sbatch: ") and complaint in output
    assert output.count("\n") == 1 and cluster.called("srun") == []


@pytest.mark.slow
def test_a_real_training_is_stopped_and_goes_on(cluster):
    """Through torchrun's rendezvous; the second job begins where the first has stopped."""
    env = cluster.slurm | {
        "MESSI_VENV": sys.prefix,
        "MESSI_DATA": os.environ["MESSI_DATA"],
        "SLURM_SUBMIT_DIR": str(root()),
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_JOB_ID": str(os.getpid()),  # decides on the port
        "MESSI_DEVICE": "cpu",
    }
    command = ["train.sbatch", "consistency", "--profile", "smoke", "--run", "real"]
    command += ["--log-every", "5", "--save-every", "100000", "--steps"]
    status, output = cluster.job(
        *command, "100000", env=env, send=signal.SIGUSR1, after="step 5/100000"
    )
    assert status == 0, output
    assert cluster.called("scontrol") == [f"requeue {os.getpid()}"]
    run = cluster.runs / "real"
    assert not (run / "STOP").exists()
    (state,) = (run / "checkpoints").glob("state-*")  # nothing was due: it is of the stop
    reached = int(re.search(r"\d+", state.name)[0])

    status, output = cluster.job(*command, str(reached + 5), env=env)
    assert status == 0 and f"step {reached + 5}/{reached + 5}" in output, output
    assert f"step 5/{reached + 5}" not in output, "it began anew"
    assert len(cluster.called("scontrol")) == 1, "a finished training stays out of the queue"
    assert (run / "generator.safetensors").is_file()


# --- notebooks ----------------------------------------------------------------------------------


def test_a_notebook_job_has_a_name_by_which_it_goes_on(cluster):
    assert cluster.job("notebook.sbatch", "03", "--profile", "gpu", env=cluster.slurm)[0] == 0
    for name in (("--run", "mine"), ("--run=mine",)):
        assert cluster.job("notebook.sbatch", "03", *name, env=cluster.slurm)[0] == 0
    assert cluster.job("notebook.sbatch", "03", env=cluster.plain)[0] == 0
    assert cluster.called("messi") == [
        "notebooks --run 4242 03 --profile gpu",
        "notebooks 03 --run mine",
        "notebooks 03 --run=mine",
        "notebooks 03",
    ]
    assert cluster.called("scontrol") == []


@pytest.mark.parametrize(
    ("at_signal", "status", "requeued"),
    [("130", 0, ["requeue 4242"]), ("0", 0, []), ("1", 1, [])],
)
def test_notebooks_out_of_time_are_queued_again_unless_all_are_through(
    cluster, at_signal, status, requeued
):
    env = cluster.slurm | {"ON_SIGNAL": at_signal}
    ended = cluster.job("notebook.sbatch", "03", env=env, send=signal.SIGUSR1, after="begun")
    assert ended[0] == status and "heard USR1" in ended[1]
    assert cluster.called("scontrol") == requeued


def test_notebooks_without_a_queue(cluster):
    for send, expected, heard in (
        (signal.SIGUSR1, 130, "heard USR1"),
        (signal.SIGINT, 143, "heard TERM"),  # a background program does not hear Ctrl-C
    ):
        ended = cluster.job("notebook.sbatch", env=cluster.plain, send=send, after="begun")
        assert ended[0] == expected and heard in ended[1]
    assert cluster.job("notebook.sbatch", env=cluster.plain | {"AT_END": "1"})[0] == 1


# --- folders of photos ----------------------------------------------------------------------------


def array(cluster, **values):
    return cluster.slurm | {f"SLURM_ARRAY_TASK_{key}": str(v) for key, v in values.items()}


@pytest.mark.parametrize(
    ("values", "shard"),
    [
        ({"ID": 3, "MIN": 1, "MAX": 16, "COUNT": 16}, " --shard 3/16"),
        ({"ID": 0, "MIN": 0, "MAX": 15, "COUNT": 16}, " --shard 1/16"),
        ({"ID": 14, "MIN": 10, "MAX": 18, "STEP": 2, "COUNT": 5}, " --shard 3/5"),
        ({}, ""),
    ],
)
def test_the_jobs_of_an_array_share_the_photos(cluster, values, shard):
    env = array(cluster, **values)
    assert cluster.job("replace.sbatch", "photos", "--out", "o p", env=env)[0] == 0
    assert cluster.called("messi") == [f"replace photos --out o p{shard} --skip-existing"]
    assert cluster.called("scontrol") == []


def test_an_array_with_gaps_is_refused(cluster):
    env = array(cluster, ID=3, MIN=3, MAX=7, COUNT=2)
    status, output = cluster.job("replace.sbatch", "photos", "--out", "o", env=env)
    assert status == 2 and "--array=1-N" in output and cluster.called("messi") == []


@pytest.mark.parametrize(
    ("send", "at_signal", "status", "requeued"),
    [
        (signal.SIGUSR1, "130", 0, ["requeue 4242"]),
        (signal.SIGUSR1, "2", 2, []),
        (signal.SIGTERM, "130", 143, []),
    ],
)
def test_photos_out_of_time_are_queued_again(cluster, send, at_signal, status, requeued):
    stub = cluster.folder / "venv" / "bin" / "messi"
    stub.write_text(NOTEBOOKS.replace('"heard TERM"; exit 130', f'"heard TERM"; exit {at_signal}'))
    command = ("replace.sbatch", "photos", "--out", "o")
    ended = cluster.job(*command, env=cluster.slurm, send=send, after="begun")
    assert ended[0] == status and "heard TERM" in ended[1]
    assert cluster.called("scontrol") == requeued


# --- style --------------------------------------------------------------------------------------


def test_the_scripts_can_be_executed_and_please_shellcheck():
    scripts = [*(root() / "cluster").glob("*.sbatch"), *(root() / ".ci").glob("*.sh")]
    scripts.append(root() / ".ci" / "run")
    for script in scripts:
        assert os.access(script, os.X_OK), f"{script} must be executable"
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
