"""A Slurm of two nodes on one machine, without systemd; device files stand for GPUs."""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "slurm-wlm-basic-plugins")
NODES = ("n1", "n2")
GPUS = 2  # of each node
MUNGE = Path("/run/munge")  # what Slurm's commands look for, without any setting
SETTINGS = Path("/etc/slurm")  # Snakemake's job step passes no SLURM_CONF on to srun

NAME = "diffprobe-test"
CONFIG = """ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/%n.log
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
KillWait=2
MinJobAge=600
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
PartitionName=gpu Nodes=ALL Default=YES State=UP
"""
NODE = "NodeName={name} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs=4 RealMemory=16000 Gres=gpu:{gpus}\n"


class Cluster:
    """The daemons' files lie in `root`; links in /etc/slurm lead there. Needs root's rights."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> "Cluster":
        host = socket.gethostname().partition(".")[0]
        for folder in (
            self.root / "state",
            self.root / "munge",
            *(self.root / node for node in NODES),
            MUNGE,
            SETTINGS,
        ):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)  # munge refuses folders that others may write to
        devices = [self.root / f"gpu{i}" for i in range(GPUS)]
        for device in devices:
            os.mknod(device, 0o20666, os.makedev(1, 3))  # Slurm sets CUDA_VISIBLE_DEVICES for device files alone
        ports = {node: 17001 + i for i, node in enumerate(NODES)}
        nodes = [NODE.format(name=name, host=host, port=port, gpus=GPUS) for name, port in ports.items()]
        gres = [f"NodeName={node} Name=gpu File={device}\n" for node in NODES for device in devices]
        self.write("slurm.conf", CONFIG.format(name=NAME, root=self.root, host=host) + "".join(nodes))
        self.write("gres.conf", "AutoDetect=off\n" + "".join(gres))
        key = self.root / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        files = {"key-file": key, "socket": MUNGE / "munge.socket.2", "pid-file": self.root / "munged.pid"}
        files |= {"log-file": self.root / "munge/log", "seed-file": self.root / "munge/seed"}
        call("munged", "--force", *(f"--{option}={path}" for option, path in files.items()))
        call("slurmctld")
        for node in NODES:
            self.start(node)
        until(lambda: said("sinfo", "-h", "-o", "%T").split() == ["idle"], 60)
        return self

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)
        (SETTINGS / name).unlink(missing_ok=True)
        (SETTINGS / name).symlink_to(self.root / name)

    def start(self, node: str) -> None:
        call("slurmd", "-N", node)

    def lose(self, node: str) -> None:
        """Kill a node's daemon and jobs. After a while Slurm takes the node for lost, and starts its jobs elsewhere."""
        os.kill(int((self.root / f"{node}.pid").read_text()), signal.SIGKILL)
        self.kill_jobs(node)

    def __exit__(self, *_: object) -> None:
        call("scancel", "--user=root")
        until(lambda: not said("squeue", "-h", "--states=running,completing").strip(), 30)
        for pid in self.root.glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(pid.read_text()), signal.SIGTERM)
        for node in NODES:
            self.kill_jobs(node)
        for link in SETTINGS.iterdir():
            if link.is_symlink() and link.readlink().is_relative_to(self.root):
                link.unlink()

    def kill_jobs(self, node: str) -> None:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environment = process.environ()
                if (environment.get("SLURM_CLUSTER_NAME"), environment.get("SLURMD_NODENAME")) == (NAME, node):
                    process.kill()


def call(*command: str) -> None:
    subprocess.run(command, check=True, timeout=60)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds, for so many seconds at most; whether it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.5)
    return False
