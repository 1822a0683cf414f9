"""A real Slurm of several virtual nodes on this machine, for the cluster tests and for trying things out.

    python -m tests.cluster.virtual_slurm make all CLUSTER=tests/cluster/virtual.yaml

starts munge, slurmctld and one slurmd per node in a folder of its own, runs the command on that cluster, waits for the
jobs it submitted, and stops everything again, whatever became of them. `bash` as the command is a shell to look around
in. Nothing of an installed Slurm is touched. Only root can install what is missing (`--install`); anybody can run it.

The nodes are called 127.0.0.1, 127.0.0.2, ...: names that resolve everywhere, without a line in /etc/hosts.
"""

from __future__ import annotations

import argparse
import getpass
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

PROGRAMS = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

# cred_expire is also the delay before a requeued job may start: 120 s by default, 5 is the least Slurm takes.
# preempt_send_user_signal is left out on purpose: preemption then sends SIGTERM alone, the harder case.
CONFIGURATION = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=128
SchedulerParameters=sched_interval=2,bf_interval=2,bf_continue,batch_sched_delay=0,sched_min_interval=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MaxArraySize={max_array_size}
SlurmctldTimeout=10
SlurmdTimeout=10
KillWait=5
MinJobAge=3600
AccountingStorageType=accounting_storage/none
PartitionName=normal Nodes=ALL PriorityTier=1 GraceTime=30 DefaultTime=10 State=UP Default=YES
PartitionName=scavenge Nodes=ALL PriorityTier=1 PreemptMode=CANCEL GraceTime=30 DefaultTime=10 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=OFF DefaultTime=10 State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} SocketsPerBoard=1 "
    "CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=16000 State=UNKNOWN\n"
)


class ClusterError(RuntimeError):
    """The cluster could not be started; the message is one line."""


class VirtualSlurm:
    """One cluster, from `start` to `stop`; a context manager that does both."""

    def __init__(self, *, nodes: int = 4, cpus: int = 4, max_array_size: int = 1001) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: sockets' paths end at 108 bytes
        self.nodes = [f"127.0.0.{number}" for number in range(1, nodes + 1)]
        self.environment = _without_slurm(os.environ) | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._configure(cpus=cpus, max_array_size=max_array_size)

    def __enter__(self) -> VirtualSlurm:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all daemons and wait until every node is idle.

        Raises:
            ClusterError: Slurm is not installed, or a daemon did not come up.
        """
        lacking = missing_packages()
        if lacking:
            raise ClusterError(
                f"Slurm is not installed: lacking {' '.join(lacking)}; run `make cluster-test` as root once"
            )
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        socket_path = self.folder / "munge.sock"
        files = {"key-file": key, "socket": socket_path, "pid-file": self.folder / "munged.pid"}
        files |= {"seed-file": self.folder / "munge.seed", "log-file": self.folder / "munged.log"}
        self._spawn("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items()))
        self._wait(socket_path.exists, what="munged")
        self.start_controller()
        for node in self.nodes:
            self.power_on(node)
        self._wait(lambda: self.states() == dict.fromkeys(self.nodes, "idle"), what="every node to be idle")

    def wait(self) -> None:
        """Wait until no job is left in the queue; one held for good has to be cancelled by its user."""
        while self.call("squeue", "--noheader"):
            time.sleep(1.0)

    def stop(self) -> None:
        """End all jobs and daemons, leave nothing."""
        for name in sorted(self._daemons, key=lambda name: name == "munged"):  # munged last: the others need it
            self._end(name, signal.SIGTERM)
        for process in self.processes():
            _kill(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, *command: str, check: bool = True) -> str:
        """What one of Slurm's commands says on this cluster."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=300)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def states(self) -> dict[str, str]:
        """The state of every node, in lower case."""
        lines = self.call("sinfo", "--noheader", "--Node", "--partition=normal", "--format=%N %t", check=False)
        return {name: state for name, _, state in (line.partition(" ") for line in lines.splitlines())}

    def power_on(self, node: str) -> None:
        (self.folder / f"spool-{node}").mkdir(exist_ok=True)
        self._spawn("slurmd", "-D", "-N", node, name=node)

    def power_off(self, node: str) -> None:
        """Power loss: the node's daemon and all jobs on it are gone at once, without a word."""
        self._end(node, signal.SIGKILL)
        for process in self.processes(node):
            _kill(process)

    def start_controller(self) -> None:
        self._spawn("slurmctld", "-D")
        self._wait(lambda: "is UP" in self.call("scontrol", "ping", check=False), what="slurmctld")

    def stop_controller(self) -> None:
        self._end("slurmctld", signal.SIGTERM)

    def pause_controller(self) -> None:
        """It takes connections and does not answer."""
        self._daemons["slurmctld"].send_signal(signal.SIGSTOP)

    def resume_controller(self) -> None:
        self._daemons["slurmctld"].send_signal(signal.SIGCONT)
        self._wait(lambda: "is UP" in self.call("scontrol", "ping", check=False), what="slurmctld")

    def processes(self, node: str | None = None) -> list[int]:
        """All processes of this cluster, or of one node: its tasks, and those of Slurm, which hold its log open."""
        log = self.folder / f"{node}.log"
        mark = b"\0SLURM_CONF=%s\0" % self.environment["SLURM_CONF"].encode()
        name = b"\0SLURMD_NODENAME=%s\0" % (node or "").encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            if int(entry.name) == os.getpid():
                continue
            with suppress(OSError):  # it is gone, or another user's
                environment = b"\0" + (entry / "environ").read_bytes()
                held = [Path(os.readlink(handle)) for handle in (entry / "fd").iterdir()]
                theirs = mark in environment or any(path.is_relative_to(self.folder) for path in held)
                if theirs and (node is None or name in environment or log in held):
                    found.append(int(entry.name))
        return found

    def _configure(self, *, cpus: int, max_array_size: int) -> None:
        host, port = socket.gethostname().partition(".")[0], _free_ports(1 + len(self.nodes))
        values = {"host": host, "folder": self.folder, "user": getpass.getuser(), "max_array_size": max_array_size}
        text = CONFIGURATION.format(port=port, **values)
        for number, node in enumerate(self.nodes, start=1):
            text += NODE.format(name=node, host=host, port=port + number, cpus=cpus)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        (self.folder / "state").mkdir(mode=0o700)

    def _spawn(self, program: str, *arguments: str, name: str | None = None) -> None:
        """Start a daemon that dies with this process, so that even a killed test run leaves none behind."""
        with open(self.folder / f"{name or program}.out", "ab") as output:
            self._daemons[name or program] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, *arguments],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _end(self, name: str, number: signal.Signals) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(timeout=20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _wait(self, condition: Callable[[], bool], *, what: str, seconds: float = 450.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = [self.folder / f"{name}{end}" for name in dead for end in (".out", ".log")]
                said = [path.read_text(errors="replace")[-500:] for path in logs if path.exists()]
                raise ClusterError(
                    f"waited in vain for {what}; ended: {dead or 'none'} {' '.join(' '.join(said).split())}"
                )
            time.sleep(0.1)


def missing_packages() -> list[str]:
    """The Debian packages that a cluster needs and this machine lacks."""
    return [package for program, package in PROGRAMS.items() if shutil.which(program, path=PATH) is None]


def install() -> None:
    """Install what is missing, without letting the packages start daemons of their own.

    Raises:
        ClusterError: not root, or apt failed.
    """
    lacking = missing_packages()
    if not lacking:
        return
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(
            f"Slurm is not installed and only root can do that here: apt-get install {' '.join(lacking)}"
        )
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *lacking]):
            done = subprocess.run(
                ["apt-get", "-qq", *command], env=environment, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise ClusterError(f"apt-get install {' '.join(lacking)} failed: {' '.join(done.stderr.split())[-300:]}")
    finally:
        if ours:
            policy.unlink()


def _without_slurm(environment: os._Environ[str]) -> dict[str, str]:
    """The environment without what a surrounding job or another cluster left in it."""
    strange = ("SLURM", "SBATCH", "SRUN", "SQUEUE", "SCONTROL", "SINFO")
    return {name: value for name, value in environment.items() if not name.startswith(strange)}


def _free_ports(count: int) -> int:
    """The first of `count` free ports in a row, below those that outgoing connections take."""
    while True:
        first = random.randrange(10_000, 32_000)
        sockets = [socket.socket() for _ in range(count)]
        try:
            for number, one in enumerate(sockets):
                one.bind(("", first + number))
        except OSError:
            continue
        else:
            return first
        finally:
            for one in sockets:
                one.close()


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="virtual_slurm", description="Run a command on a Slurm of virtual nodes.")
    parser.add_argument("--install", action="store_true", help="install Slurm first if it is missing (root only)")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run on the cluster")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    try:
        if options.install:
            install()
        with VirtualSlurm(nodes=options.nodes) as slurm:
            code = 0
            if options.command:
                code = subprocess.run(options.command, env=slurm.environment, check=False).returncode
                slurm.wait()
    except ClusterError as error:
        sys.exit(f"virtual_slurm: {error}")
    sys.exit(code)


if __name__ == "__main__":
    main()
