"""How one job becomes several processes: on one machine by torchrun, on several nodes of Slurm by srun and a torchrun
on each of them.
"""

import os
import socket
import sys
from argparse import Namespace
from functools import partial

from diffprobe.runtime.gpus import visible_gpus
from diffprobe.runtime.leases import MEMBERS, lease_gpus

STARTED_BY_TORCHRUN = "DIFFPROBE_TORCHRUN"
# What torchrun sets. Inherited from a scheduler it means another program, whose processes would be waited for.
WORLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
RENDEZVOUS = "DIFFPROBE_RENDEZVOUS"  # HOST:PORT of the first node, in a process that srun has started on each
ALLOCATION = "SLURM_JOB_ID"  # all that Snakemake's plugin passes on of what Slurm says of a job's nodes
NODE = "SLURM_NODEID"
SAVING = "600"  # seconds that processes have to finish their step and save after a signal; torchrun would give them 30


def start_processes(arguments: Namespace) -> None:
    """Replace this process by what starts as many as the option `processes` says, on as many nodes as `nodes`.

    It has leased a GPU for each on its node, and they share the lease: a killed one of them frees no device of the
    others.
    """
    if STARTED_BY_TORCHRUN in os.environ:
        return
    for name in (*WORLD, MEMBERS):
        os.environ.pop(name, None)
    options = dict(pair.split("=", 1) for pair in arguments.options)
    count = int(options.get("processes", 1))
    nodes = int(options.get("nodes", 1)) if ALLOCATION in os.environ else 1
    if nodes > 1 and RENDEZVOUS not in os.environ:
        os.environ[RENDEZVOUS] = f"{socket.gethostname()}:{free_port()}"
        # Where one node's torchrun fails, those of the others wait for it until they are killed.
        srun = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
        srun.append(f"--cpus-per-task={arguments.threads}")
        os.execvp("srun", [*srun, sys.executable, *sys.argv])
    if count > 1:
        each = count // nodes
        if gpus := visible_gpus():
            say = partial(print, f"{arguments.name}:", file=sys.stderr, flush=True)
            for descriptor in lease_gpus(gpus, each, arguments.name, say):
                os.set_inheritable(descriptor, True)
        os.environ[STARTED_BY_TORCHRUN] = "1"
        os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SAVING)
        torchrun = ["-m", "torch.distributed.run", *meeting(nodes), f"--nproc-per-node={each}", "--"]
        os.execv(sys.executable, [sys.executable, *torchrun, *sys.argv])


def meeting(nodes: int) -> list[str]:
    """Where torchrun's processes meet: here, at a free port; or at the first node, which holds the first ranks."""
    if nodes == 1:
        return ["--standalone"]
    address, _, port = os.environ[RENDEZVOUS].rpartition(":")
    return [f"--nnodes={nodes}", f"--node-rank={os.environ[NODE]}", f"--master-addr={address}", f"--master-port={port}"]


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
    return port
