"""A real Slurm of one node on the loopback address, in a temporary folder, for as long as a test needs it.

It needs slurmctld, slurmd and root (Debian: slurm-wlm), and no munge: authentication is auth/none.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

NEEDED = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
CONF = """
ClusterName=kdviz
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ctld}
SlurmdPort={d}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MpiDefault=none
ReturnToService=2
KillWait=5
InactiveLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why there can be no Slurm here, in words; empty where there can."""
    absent = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if absent:
        return f"{absent[0]} is not installed"
    return "" if os.geteuid() == 0 else "slurmd needs root"


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def slurm(folder, cpus=2):
    """A node of so many CPUs; gives the environment in which Slurm's commands find it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, ctld=_free_port(), d=_free_port(), cpus=cpus))
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    daemons = []
    try:
        for words in (["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            with (folder / f"{words[0]}.out").open("wb") as log:
                daemons.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
        _until_idle(environment, daemons, folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--user", "root"], env=environment, check=False, timeout=30)
        _until(lambda: not _said(["squeue", "-h"], environment), 30)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _said(words, environment):
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60).stdout.strip()


def _until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _until_idle(environment, daemons, folder):
    if not _until(lambda: _said(["sinfo", "-h", "-o", "%t"], environment) == "idle", 60):
        logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
        raise RuntimeError(f"Slurm does not start; daemons ended with {[one.poll() for one in daemons]}\n{logs}")
