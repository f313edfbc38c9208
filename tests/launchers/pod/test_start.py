"""Starting, with gcloud, xpk, kubectl and docker that the test makes.

They note how they are called. The fake gcloud has one host: scp copies there and ssh runs there.
"""

import importlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import types

import pytest

from tests.launchers.in_process import Caller, flags_restored

ROOT = pathlib.Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "pods.md").read_text()
# Of the package, what the program loads.
NEEDED = [f"leco_jax/{name}.py" for name in ("__init__", "configuration", "experiments_extra")]

FAKE = f"""#!{sys.executable} -ISs
import json, os, pathlib, sys
here = pathlib.Path(__file__).parents[1]
tool, words = pathlib.Path(__file__).name, sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([tool, *words]) + "\\n")
(here / "given").write_bytes(b"" if sys.stdin.isatty() else sys.stdin.buffer.read())
answers = json.loads((here / "answers").read_text())
for part, results in answers.items():
    if part in " ".join([tool, *words]):
        result = results.pop(0) if len(results) > 1 else results[0]
        (here / "answers").write_text(json.dumps(answers))
        code, text = result if isinstance(result, list) else [result, ""]
        print(text, end="", flush=True)
        if code == "sleep":
            os.execvp("sleep", ["sleep", "30"])
        sys.exit(code)
if "scp" in words:
    sent = here / "host" / words[5].partition(":")[2]
    sent.write_bytes(pathlib.Path(words[4]).read_bytes())
if "ssh" in words:
    (command,) = [word for word in words if word.startswith("--command=")]
    host = here / "host"
    os.chdir(host)
    environment = {{"HOME": str(host), "TMPDIR": str(host), "PATH": os.environ["PATH"]}}
    os.execvpe("sh", ["sh", "-c", command.partition("=")[2]], environment)
"""
# Stands for uv and pip; the environment's Python notes its arguments.
PYTHON = """#!/bin/sh
case "$*" in *"uv venv"*)
  for environment; do :; done
  mkdir -p "$environment/bin"
  printf '#!/bin/sh\\nfor word; do printf "%%s\\\\n" "$word"; done >>"$HOME/ran"\\n' \
    >"$environment/bin/python"
  chmod +x "$environment/bin/python"
esac
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A git clone of what the program needs of this one."""
    root = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "launchers", root / "launchers", ignore=shutil.ignore_patterns("*.pyc"))
    (root / "leco_jax").mkdir()
    for name in (*NEEDED, "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    (root / ".gitignore").write_text("__pycache__\n")
    identity = [
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@localhost",
        "-c",
        "commit.gpgsign=false",
    ]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=all"]):
        subprocess.run(["git", "-C", root, *identity, *words], check=True)
    return root


@pytest.fixture
def cloud(clone, tmp_path, monkeypatch, capfd, caplog):
    """Starts the program among the fakes; `answers` are exit codes and output by parts of calls."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tmp_path / "host").mkdir()
    for name in ("gcloud", "xpk", "kubectl", "docker"):
        (tools / name).write_text(FAKE)
    (tools / "python3").write_text(PYTHON)
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def prepare(answers):
        (tmp_path / "answers").write_text(json.dumps(answers or {}))
        (tmp_path / "calls").write_text("")

    def calls():
        return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]

    def popen(*arguments, answers=None):
        prepare(answers)
        return subprocess.Popen(
            [sys.executable, "-m", "launchers.pod.start", *arguments], cwd=clone, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def start(*arguments, answers=None):
        prepare(answers)
        given = ["start", "--poll=0.01", *arguments]
        with flags_restored():
            module = importlib.import_module("launchers.pod.start")
            monkeypatch.setattr(module, "_ROOT", clone)
            command = module._take_command(given)
            done = Caller(capfd, caplog).call(lambda: module.main(command), *given[1:])
        done.calls = calls()
        return done

    yield types.SimpleNamespace(
        start=start, popen=popen, calls=calls, host=tmp_path / "host", given=tmp_path / "given"
    )
    for number, handler in handlers.items():
        signal.signal(number, handler)


QUEUED = ("--how=queued", "--name=sft", "--accelerator=v5litepod-16", "--zone=z")
XPK = ("--how=xpk", "--name=sft", "--accelerator=v5litepod-16", "--zone=z", "--cluster=c",
       "--image=repository/leco")  # fmt: skip
JOBSET = ("--how=jobset", "--name=sft", "--accelerator=v5litepod-16", "--image=repository/leco")
COMMAND = ("--", "launchers.sft", "--config=configs/sft.py", "--workdir=gs://bucket/sft")
# The resource is not there; once created it is ACTIVE.
MADE = {"describe": [1, [0, "ACTIVE\n"]]}


def _condition(kind, restarts=0):
    status = {"conditions": [{"type": kind, "status": "True"}], "restarts": restarts}
    return [0, json.dumps({"status": status})]


def _pods(*codes):
    states = [{"terminated": {"exitCode": code}} for code in codes]
    return [0, json.dumps({"items": [
        {"status": {"containerStatuses": [{"state": state}]}} for state in states
    ]})]  # fmt: skip


COMPLETED = {"get jobset": [_condition("Completed")], "logs": [[0, "loss 0.5\n"]]}


def _verbs(calls):
    """Of gcloud's calls the verb and of ssh what host.sh does."""
    doing = [re.findall(r"host\.sh (\w+)", call[-2]) if call[5] == "ssh" else [] for call in calls]
    return [f"{call[4]}{''.join(' ' + word for word in more)}" for call, more in zip(calls, doing)]  # noqa: B905


def test_a_queued_resource_is_made_used_and_given_back(cloud):
    done = cloud.start(*QUEUED, "--delete", *COMMAND, answers=MADE)
    assert done.returncode == 0, done.stderr
    verbs = [call[4] for call in done.calls]
    assert verbs == ["describe", "create", "describe", "scp", "ssh", "ssh", "delete"]
    create = done.calls[1]
    assert create[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "sft"]
    assert set(create[6:]) == {
        "--node-id=sft", "--accelerator-type=v5litepod-16",
        "--runtime-version=v2-alpha-tpuv5-lite", "--zone=z",
    }  # fmt: skip
    for call in done.calls[3:6]:
        assert {"--node=all", "--worker=all", "--batch-size=all"} <= set(call)
    assert done.calls[-1][4:] == ["delete", "sft", "--force", "--quiet", "--zone=z"]
    assert (cloud.host / "ran").read_text().splitlines() == ["-m", *COMMAND[1:]]


def test_several_slices_are_nodes_of_one_queued_resource(cloud):
    more = ("--num_slices=2", "--project=p", "--create_flag=--spot", "--create_flag=--labels=a=b")
    done = cloud.start(*QUEUED, *more, *COMMAND, answers=MADE)
    assert done.returncode == 0, done.stderr
    create = done.calls[1]
    assert {"--node-count=2", "--node-prefix=sft", "--spot", "--labels=a=b"} <= set(create)
    assert not [word for word in create if word.startswith("--node-id")]
    assert all("--project=p" in call for call in done.calls)
    # Without --delete the way to give them back is said.
    assert "queued-resources delete sft --force --quiet --zone=z --project=p" in done.stderr


def test_a_queued_resource_that_is_there_is_used(cloud):
    done = cloud.start(*QUEUED, *COMMAND, answers={"describe": [[0, "ACTIVE\n"]]})
    assert done.returncode == 0, done.stderr
    assert [call[4] for call in done.calls] == ["describe", "describe", "scp", "ssh", "ssh"]


def test_arguments_with_spaces_quotes_and_commas_arrive_as_they_were(cloud):
    command = ["launchers.sft", '--prompt=It\'s "5", $HOME; `ls`  & $(ls) > a\\b *', "", "a,b"]
    done = cloud.start(*QUEUED, "--", *command, answers=MADE)
    assert done.returncode == 0, done.stderr
    assert (cloud.host / "ran").read_text().splitlines() == ["-m", *command]
    done = cloud.start(*XPK, "--", *command, answers=COMPLETED)
    (given,) = [word for word in done.calls[2] if word.startswith("--command=")]
    inside = shlex.split(given.partition("=")[2].replace("$$", "$"))  # as Kubernetes does
    assert inside == ["sh", "/leco/launchers/pod/host.sh", "run", *command]


def test_the_commit_is_sent_and_what_is_not_committed_is_named(cloud, clone):
    changed, new = clone / "pyproject.toml", clone / "new.py"
    before = changed.read_text()
    try:
        changed.write_text("changed")
        new.write_text("")
        done = cloud.start(*QUEUED, *COMMAND, answers=MADE)
    finally:
        changed.write_text(before)
        new.unlink()
    assert done.returncode == 0, done.stderr
    assert "not committed, so not sent: pyproject.toml, new.py" in done.stderr
    (sent,) = cloud.host.glob("leco-*/")
    assert (sent / "pyproject.toml").read_text() == before
    assert (sent / "launchers" / "pod" / "host.sh").exists()
    assert not (sent / "new.py").exists()


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_a_queued_resource_that_is_lost_ends_the_wait_with_its_state(cloud, state):
    states = [1, [0, "WAITING_FOR_RESOURCES\n"], 1, [0, "PROVISIONING\n"], [0, f"{state}\n"]]
    done = cloud.start(*QUEUED, "--delete", *COMMAND, answers={"describe": states})
    assert done.returncode == 1
    for said in ("sft is WAITING_FOR_RESOURCES", "sft is PROVISIONING", f"sft is {state}: it does"):
        assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert [call[4] for call in done.calls][-2:] == ["describe", "delete"]


def test_a_create_that_fails_gives_nothing_back(cloud):
    done = cloud.start(*QUEUED, "--delete", *COMMAND, answers={"describe": [1], "create": [7]})
    assert done.returncode == 7
    assert [call[4] for call in done.calls] == ["describe", "create"]


@pytest.mark.parametrize(
    ("codes", "runs", "code"), [([75, 75, 0], 3, 0), ([75, 3], 2, 3), ([75], 3, 75)]
)
def test_exit_code_75_starts_the_same_command_again(cloud, codes, runs, code):
    done = cloud.start(*QUEUED, "--restarts=2", *COMMAND, answers=MADE | {"host.sh run": codes})
    assert done.returncode == code
    started = [call for call in done.calls if "host.sh run" in " ".join(call)]
    assert len(started) == runs
    assert len({tuple(call) for call in started}) == 1


@pytest.mark.parametrize(("number", "delete"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupted_start_gives_the_slice_back_or_says_how(cloud, number, delete):
    answers = MADE | {"host.sh run": ["sleep"]}
    running = cloud.popen(*QUEUED, f"--delete={delete}", *COMMAND, answers=answers)
    while not any("host.sh run" in " ".join(call) for call in cloud.calls()):
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    running.send_signal(number)
    _, errors = running.communicate()
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert (cloud.calls()[-1][4] == "delete") == delete
    assert "gcloud compute tpus queued-resources delete sft --force --quiet --zone=z" in errors
    assert ("host.sh stop" in errors) == (not delete)


def test_a_slice_that_could_not_be_given_back_is_an_error(cloud):
    done = cloud.start(*QUEUED, "--delete", *COMMAND, answers=MADE | {"delete": [2]})
    assert done.returncode == 1
    assert "NOT given back, do it by hand: gcloud compute tpus" in done.stderr


def test_xpk_runs_the_image_of_the_commit(cloud):
    done = cloud.start(
        *XPK, "--num_slices=2", "--restarts=3", "--delete", *COMMAND, answers=COMPLETED
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "loss 0.5\n"
    build, push, create, *_, delete = done.calls
    (tag,) = [word.partition("=")[2] for word in build if word.startswith("--tag=")]
    assert re.fullmatch(r"repository/leco:[0-9a-f]{12}", tag)
    assert push == ["docker", "push", tag]
    assert create[:3] == ["xpk", "workload", "create"]
    assert {
        "--workload=sft", "--cluster=c", "--zone=z", "--tpu-type=v5litepod-16", "--num-slices=2",
        f"--docker-image={tag}", "--max-restarts=3", "--restart-on-exit-codes=75",
    } <= set(create)  # fmt: skip
    assert delete == [
        "xpk",
        "workload",
        "delete",
        "--workload=sft",
        "--cluster=c",
        "--zone=z",
        "--force",
    ]


def test_the_context_of_the_image_is_the_commit(cloud, clone):
    done = cloud.start(*JOBSET, *COMMAND, answers={"docker build": [9]})
    assert done.returncode == 9
    (build,) = done.calls
    assert build[-1] == "-"
    with tarfile.open(cloud.given) as context:
        names = set(context.getnames())
    assert {"launchers/pod/Dockerfile", "launchers/pod/host.sh", "pyproject.toml"} <= names
    # The environment is made by the script that TPU VMs use.
    dockerfile = (clone / "launchers" / "pod" / "Dockerfile").read_text()
    assert "RUN sh launchers/pod/host.sh setup\n" in dockerfile
    assert "WORKDIR /leco\n" in dockerfile


def test_a_jobset_is_followed_through_its_restarts(cloud):
    running, again = ([0, json.dumps({"status": {"restarts": n}})] for n in (0, 1))
    answers = {
        "get jobset": [[0, "{}"], running, running, again, _condition("Completed", restarts=1)],
        # None yet, then the first pod's, then the second's; a pod's log is not printed twice.
        "logs": [[0, ""], [0, "first\n"], [0, "second\n"]],
    }
    image = "--image=repository/leco:tag"  # which is there
    done = cloud.start(*JOBSET[:-1], image, "--restarts=1", *COMMAND, answers=answers)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "first\nsecond\n"
    assert done.calls[0] == ["kubectl", "create", "--filename=-"]
    assert "kubectl delete jobset sft" in done.stderr


@pytest.mark.parametrize(("codes", "code"), [([0, 75, 3, 137], 3), ([137, 75], 75), ([], 1)])
def test_a_jobset_that_failed_gives_its_pods_exit_code(cloud, codes, code):
    answers = {"get jobset": [_condition("Failed")], "get pods": [_pods(*codes)]}
    done = cloud.start(*JOBSET[:-1], "--image=leco:tag", "--delete", *COMMAND, answers=answers)
    assert done.returncode == code
    assert "sft failed; the end of each host's log: kubectl logs" in done.stderr
    assert done.calls[-1] == ["kubectl", "delete", "jobset", "sft"]


def test_a_state_that_cannot_be_asked_for_is_given_up_in_one_line(cloud):
    done = cloud.start(*JOBSET[:-1], "--image=leco:tag", *COMMAND, answers={"get jobset": [1]})
    assert done.returncode == 1
    assert "kubectl get jobset sft --output=json fails" in done.stderr
    assert len([call for call in done.calls if call[1] == "get"]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*QUEUED, "--accelerator=v5e-16", *COMMAND), "unknown accelerator 'v5e-16'"),
        ((*QUEUED, "--name=Sft", *COMMAND), "--name=Sft: a letter first"),
        ((*QUEUED, "--name=1sft", *COMMAND), "--name=1sft"),
        ((*QUEUED, "--name=sft-", *COMMAND), "--name=sft-"),
        ((*QUEUED, f"--name={'a' * 41}", *COMMAND), "up to 40"),
        ((*QUEUED, "--name=sft; ls", *COMMAND), "--name=sft; ls"),
        ((*QUEUED, "--zone=", *COMMAND), "--how=queued needs --zone"),
        ((*QUEUED, "--image=leco", *COMMAND), "--how=queued knows no --image"),
        ((*JOBSET, "--create_flag=--spot", *COMMAND), "--how=jobset knows no --create_flag"),
        (QUEUED, "after -- one command"),
        ((*QUEUED, "--", "launchers.sft", "a\nb"), "without line breaks"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(cloud, monkeypatch, arguments, message):
    monkeypatch.setenv("PATH", "")
    done = cloud.start(*arguments)
    assert done.returncode == 1
    assert message in done.stderr


def _printed(output):
    """The commands of a dry run, without comments and manifests."""
    without = re.sub(r" <<'END'\n.*?\nEND$", "", output, flags=re.DOTALL | re.MULTILINE)
    return [line for line in without.splitlines() if not line.startswith("#")]


def _of_the_page():
    """Each way's command on the page, and the commands that it says are run."""
    blocks = re.findall(r"^```sh\n(.*?)^```$.*?^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    joined = [[re.sub(r" \\\n +", " ", text).strip() for text in block] for block in blocks]
    return [pytest.param(*block, id=block[0].split()[3]) for block in joined]


@pytest.mark.parametrize(("command", "said"), _of_the_page())
def test_the_page_says_what_is_run_and_it_runs(cloud, clone, command, said):
    python, *arguments = shlex.split(command)
    assert (python, arguments[:2]) == ("python", ["-m", "launchers.pod.start"])
    for archive in (clone / ".git").glob("leco-*"):
        archive.unlink()
    dry = cloud.start("--dry_run", *arguments[2:])
    assert not dry.calls
    assert not list((clone / ".git").glob("leco-*"))
    (commit,) = set(re.findall(r"leco-(\w{12})\.tar", dry.stdout))
    printed = _printed(dry.stdout)
    assert "\n".join(printed).replace(commit, "COMMIT").replace(str(clone), "CLONE") == said
    done = cloud.start(*arguments[2:], answers=MADE | COMPLETED)
    assert done.returncode == 0, done.stderr
    # A queued resource's state says whether it is there; a failed JobSet's pods are asked for.
    called = [shlex.join(call) for call in done.calls]
    before = [call for call in called[:1] if " describe " in call]
    assert called == before + [
        line.partition(" < ")[0]
        for line in printed
        if not line.startswith(("git ", "kubectl get pods"))
    ]


def test_the_page_has_every_way():
    assert [block.id for block in _of_the_page()] == ["--how=queued", "--how=xpk", "--how=jobset"]
