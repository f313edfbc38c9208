"""Starts one command on every host of TPU slices, follows it, restarts it, gives the slices back.

    python -m launchers.pod.start --how=queued --name=sft --accelerator=v5litepod-16 \
        --zone=ZONE --restarts=5 --delete -- \
        launchers.sft --config=configs/sft_llama2_7b_pod.py --workdir=gs://BUCKET/sft

--how is `queued` (TPU VMs by ssh), `xpk` or `jobset` (GKE): docs/pods.md. What runs is the commit
that is checked out. --dry_run prints the commands and runs none.

Exit codes: the command's own, 75 after the last restart; 1 something is wrong (the message says
what); 130 interrupted.
"""

import contextlib
import functools
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from launchers import runtime
from launchers.pod import slices

# Flags that one way needs and another does not know.
_NEEDED = {"queued": ("zone",), "xpk": ("zone", "cluster", "image"), "jobset": ("image",)}
_UNKNOWN = {
    "queued": ("cluster", "image"),
    "xpk": (),
    "jobset": ("zone", "project", "cluster", "create_flag"),
}

_HOW = flags.DEFINE_enum("how", "queued", list(_NEEDED), "TPU VMs by ssh, xpk, or a JobSet on GKE")
_NAME = flags.DEFINE_string("name", None, "name of the queued resource or the job", required=True)
_ACCELERATOR = flags.DEFINE_string("accelerator", None, "such as v5litepod-16", required=True)
_NUM_SLICES = flags.DEFINE_integer("num_slices", 1, "how many of them", lower_bound=1)
_ZONE = flags.DEFINE_string("zone", None, "zone of the slices or the cluster")
_PROJECT = flags.DEFINE_string("project", None, "another project than gcloud's own")
_CLUSTER = flags.DEFINE_string("cluster", None, "GKE cluster")
_IMAGE = flags.DEFINE_string(
    "image", None, "REPOSITORY: the commit's image is built and pushed; REPOSITORY:TAG is there"
)
_CREATE_FLAG = flags.DEFINE_multi_string("create_flag", [], "one more for `create`, as --spot")
_RESTARTS = flags.DEFINE_integer("restarts", 0, "starts anew after exit code 75", lower_bound=0)
_DELETE = flags.DEFINE_bool("delete", False, "give the slices back at the end, whatever it is")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the commands and run none")
_POLL = flags.DEFINE_float("poll", 20.0, "seconds between questions for a state", lower_bound=0.0)

_ROOT = Path(__file__).parents[2]
_QUESTIONS = 5  # that fail one after the other until it is given up


def main(command: list[str]) -> int:
    """Starts `command`, a launcher's module and its flags."""
    kind, how = slices.find_slice(_ACCELERATOR.value), _HOW.value
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", _NAME.value):
        raise ValueError(
            f"--name={_NAME.value}: a letter first, then a-z, 0-9 and -, no - at the end, up to 40"
        )
    for name in (*_NEEDED[how], *_UNKNOWN[how]):
        needed = name in _NEEDED[how]
        if bool(flags.FLAGS[name].value) != needed:
            raise ValueError(f"--how={how} {'needs' if needed else 'knows no'} --{name}")
    if not command or any("\n" in word for word in command):
        raise ValueError("after -- one command without line breaks: -- launchers.sft --config=...")
    commit = _git("rev-parse", "HEAD")[:12]
    for number in (signal.SIGINT, signal.SIGTERM):  # A shell's background job ignores Ctrl-C.
        signal.signal(number, signal.default_int_handler)
    try:
        return (_queued if how == "queued" else _cluster)(kind, command, commit)
    except KeyboardInterrupt:
        return 130


def _queued(kind: slices.Slice, command: list[str], commit: str) -> int:
    """TPU VMs: a queued resource, then ssh to all hosts of all its slices."""
    name, here = _NAME.value, f"leco-{commit}"
    host = f"sh {here}/launchers/pod/host.sh"
    # All at once: in gcloud's batches of 64 the first would wait for the others.
    everywhere = ("--node=all", "--worker=all", "--batch-size=all")

    def tpus(verb: str, *more: str) -> list[str]:
        words = ("gcloud", "compute", "tpus", "queued-resources", verb, *more)
        return [*words, f"--zone={_ZONE.value}", *_project()]

    def ssh(what: str) -> list[str]:
        return tpus("ssh", name, *everywhere, f"--command={what}")

    def create() -> int:
        _explain("unless it is there:")
        if not _DRY_RUN.value and not subprocess.run(state, capture_output=True).returncode:
            return runtime.DONE
        nodes = [f"--node-count={_NUM_SLICES.value}", f"--node-prefix={name}"]
        return _call(tpus(
            "create", name, *(nodes if _NUM_SLICES.value > 1 else [f"--node-id={name}"]),
            f"--accelerator-type={_ACCELERATOR.value}", f"--runtime-version={kind.runtime_version}",
            *_CREATE_FLAG.value,
        ))  # fmt: skip

    def use() -> int:
        _explain("until it is ACTIVE:")
        _wait_until_active(state)
        archive = _archive(commit)
        send = tpus("scp", str(archive), f"{name}:{here}.tar.gz", *everywhere)
        unpack = f"mkdir -p {here} && tar -xzf {here}.tar.gz -C {here} && {host} setup"
        if code := _call(send) or _call(ssh(unpack)):
            return code
        if left := _RESTARTS.value:
            _explain(f"again while the exit code is 75, {left} times at most:")
        run = ssh(f"{host} run {shlex.join(command)}")
        try:
            while (code := _call(run)) == runtime.RESUME and left:
                left -= 1
                runtime.log.info("exit code 75: the command goes on; %d more restarts", left)
        except KeyboardInterrupt:
            if not _DELETE.value:
                stop = shlex.join(ssh(f"{host} stop"))
                runtime.log.warning("the hosts go on; to make them save and end: %s", stop)
            raise
        return code

    state = tpus("describe", name, "--format=value(state.state)")
    return _with_slices(create, use, tpus("delete", name, "--force", "--quiet"))


def _wait_until_active(state: list[str]) -> None:
    before = ""
    while (now := _ask(state).strip()) != "ACTIVE" and not _DRY_RUN.value:
        if now in ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING"):
            raise ValueError(f"{_NAME.value} is {now}: it does not become ACTIVE any more")
        if now != before:
            runtime.log.info("%s is %s", _NAME.value, now)
        before = now
        time.sleep(_POLL.value)


def _cluster(kind: slices.Slice, command: list[str], commit: str) -> int:
    """GKE: an image, then a JobSet, of our own making or of xpk's."""
    name, image, manifest = _NAME.value, str(_IMAGE.value), ""
    if ":" not in image.rpartition("/")[2]:
        image = f"{image}:{commit}"
        file = "--file=launchers/pod/Dockerfile"
        build = ["docker", "build", "--platform=linux/amd64", file, f"--tag={image}", "-"]
        if code := _call(build, _archive(commit)) or _call(["docker", "push", image]):
            return code
    inside = ["sh", "/leco/launchers/pod/host.sh", "run", *command]
    if _HOW.value == "jobset":
        delete = ["kubectl", "delete", "jobset", name]
        create = ["kubectl", "create", "--filename=-"]
        described = slices.jobset(name, kind, _NUM_SLICES.value, image, inside, _RESTARTS.value)
        manifest = json.dumps(described, indent=2)
    else:
        which = [f"--workload={name}", f"--cluster={_CLUSTER.value}", f"--zone={_ZONE.value}"]
        delete = ["xpk", "workload", "delete", *which, *_project(), "--force"]
        create = [
            "xpk", "workload", "create", *which, *_project(), f"--tpu-type={_ACCELERATOR.value}",
            f"--num-slices={_NUM_SLICES.value}", f"--docker-image={image}",
            f"--max-restarts={_RESTARTS.value}", f"--restart-on-exit-codes={runtime.RESUME}",
            f"--termination-grace-period-seconds={slices.SECONDS_TO_SAVE}",
            f"--command={shlex.join(slices.escaped(inside))}", *_CREATE_FLAG.value,
        ]  # fmt: skip
    return _with_slices(lambda: _call(create, manifest), _follow, delete)


def _follow() -> int:
    """Prints what process 0 prints until the JobSet has ended; gives the exit code of its pods."""
    job = f"jobset.sigs.k8s.io/jobset-name={_NAME.value}"
    first = f"{job},jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"
    state = ["kubectl", "get", "jobset", _NAME.value, "--output=json"]
    logs = ["kubectl", "logs", "--follow", "--tail=-1", f"--selector={first}"]
    pods = ["kubectl", "get", "pods", f"--selector={job}", "--output=json"]
    if _DRY_RUN.value:
        _explain("until it has ended; the log after each restart:")
        return _call(state) or _call(logs) or _call(pods)
    printed = None
    while True:
        status = json.loads(_ask(state)).get("status", {})
        true = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
        restarts = status.get("restarts", 0)
        if restarts != printed and _stream(logs):
            printed = restarts
        if true & {"Completed", "Failed"}:
            break
        time.sleep(_POLL.value)
    if "Completed" in true:
        return runtime.DONE
    states = [
        container["state"]
        for pod in json.loads(_ask(pods))["items"]
        for container in pod["status"].get("containerStatuses", [])
    ]
    codes = [code for s in states if (code := s.get("terminated", {}).get("exitCode"))]
    ends = [code for code in codes if code not in slices.RESTARTED]
    by_hand = shlex.join(["kubectl", "logs", f"--selector={job}", "--prefix", "--tail=20"])
    runtime.log.error("%s failed; the end of each host's log: %s", _NAME.value, by_hand)
    return (ends or [runtime.RESUME if codes else runtime.WRONG])[0]


def _with_slices(create: Callable[[], int], use: Callable[[], int], delete: list[str]) -> int:
    """Creates, uses and, with --delete, gives back; a `create` that fails leaves nothing."""
    made = True  # perhaps, where `create` is interrupted
    try:
        code = create()
        made = not code
        return use() if made else code
    finally:
        if made and _DELETE.value:
            for number in (signal.SIGINT, signal.SIGTERM):  # A second Ctrl-C would leave it.
                signal.signal(number, signal.SIG_IGN)
            if _call(delete):
                raise ValueError(f"NOT given back, do it by hand: {shlex.join(delete)}")
        elif made and not _DRY_RUN.value:
            runtime.log.warning("%s stays; to give it back: %s", _NAME.value, shlex.join(delete))


def _archive(commit: str) -> Path:
    """Writes what is sent, the commit alone, beside git's own files; says what is not in it."""
    path = Path(_git("rev-parse", "--absolute-git-dir"), f"leco-{commit}.tar.gz")
    if files := [line[3:] for line in _git("status", "--porcelain").splitlines()]:
        runtime.log.warning("not committed, so not sent: %s", ", ".join(files))
    words = ["git", "-C", str(_ROOT), "archive", "--format=tar.gz", f"--output={path}", commit]
    if _call(words):
        raise ValueError(f"failed: {shlex.join(words)}")
    return path


def _call(words: list[str], given: str | Path = "") -> int:
    """Runs a command, with a text or file on its standard input; gives its exit code."""
    if isinstance(given, Path):
        standard_input = f" < {shlex.quote(str(given))}"
    else:
        standard_input = f" <<'END'\n{given}\nEND" if given else ""
    if _DRY_RUN.value:
        print(shlex.join(words) + standard_input)
        return runtime.DONE
    runtime.log.info("%s", shlex.join(words))
    with contextlib.ExitStack() as stack:
        if isinstance(given, Path):
            return subprocess.run(words, stdin=stack.enter_context(given.open("rb"))).returncode
        return subprocess.run(words, input=given or None, text=True).returncode


def _ask(words: list[str]) -> str:
    """What a command prints; a wait of hours is not given up for one that fails."""
    if _DRY_RUN.value:
        _call(words)
        return ""
    for failed in range(_QUESTIONS):
        time.sleep(_POLL.value if failed else 0)
        done = subprocess.run(words, capture_output=True, text=True)
        if not done.returncode:
            return done.stdout
    raise ValueError(f"{shlex.join(words)} fails: {done.stderr.strip()}")


def _stream(words: list[str]) -> bool:
    """Prints a command's output as it comes; says whether there was any."""
    lines = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            for lines, line in enumerate(process.stdout or (), 1):  # noqa: B007
                sys.stdout.buffer.write(line)
                sys.stdout.flush()
        finally:
            process.kill()
    return bool(lines)


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(_ROOT), *words], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{_ROOT} is no clone whose commit could be sent: {done.stderr.strip()}")
    return done.stdout.strip("\n")


def _project() -> list[str]:
    return [f"--project={_PROJECT.value}"] if _PROJECT.value else []


def _explain(what: str) -> None:
    if _DRY_RUN.value:
        print(f"# {what}")


def _take_command(arguments: list[str]) -> list[str]:
    """Takes from a command line what stands after --."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    command = arguments[at + 1 :]
    del arguments[at:]
    return command


if __name__ == "__main__":
    runtime.run(functools.partial(main, _take_command(sys.argv)))
