"""What a TPU slice is called and made of, and the JobSet that runs a command on some.

Names and sizes are those of Google's documentation of Cloud TPU and GKE; a GKE node of a slice with
four chips or more has four.
"""

import dataclasses
import math

from launchers import runtime

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
# By family: runtime version, GKE's name, TensorCores of a chip (a name counts them), topologies.
_FAMILIES = {
    "v5litepod": ("v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", 1, _FLAT),
    "v5p": ("v2-alpha-tpuv5", "tpu-v5p-slice", 2, _CUBES),
    "v6e": ("v2-alpha-tpuv6e", "tpu-v6e-slice", 1, _FLAT),
}
# Beside 75: a host that was killed (137) or asked to end (143) is no mistake of the command's.
RESTARTED = (runtime.RESUME, 137, 143)
# A checkpoint is written after SIGTERM.
SECONDS_TO_SAVE = 300


@dataclasses.dataclass(frozen=True)
class Slice:
    """One slice: the software of its TPU VMs, GKE's name for it, chips along each axis."""

    runtime_version: str
    gke_accelerator: str
    topology: str

    @property
    def chips(self) -> int:
        """How many chips it has."""
        return math.prod(map(int, self.topology.split("x")))


def _slices() -> dict[str, Slice]:
    slices = {}
    for family, (version, accelerator, cores, topologies) in _FAMILIES.items():
        for topology in topologies:
            kind = Slice(version, accelerator, topology)
            slices[f"{family}-{kind.chips * cores}"] = kind
    return slices


SLICES = _slices()


def find_slice(name: str) -> Slice:
    """The slice of an accelerator type; ValueError for an unknown one."""
    if name not in SLICES:
        raise ValueError(f"unknown accelerator {name!r}: there are {', '.join(SLICES)}")
    return SLICES[name]


def escaped(command: list[str]) -> list[str]:
    """A container's command for Kubernetes, which reads $(NAME) and $$ itself."""
    return [word.replace("$", "$$") for word in command]


def jobset(
    name: str, kind: Slice, num_slices: int, image: str, command: list[str], restarts: int
) -> dict:
    """The manifest (jobset.x-k8s.io/v1alpha2): a job per slice, a pod per host, one command.

    All start anew, `restarts` times at most, where a pod ends with one of `RESTARTED` or its node
    goes; any other code ends the JobSet.
    """
    chips = min(kind.chips, 4)
    hosts = kind.chips // chips
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": SECONDS_TO_SAVE,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": kind.gke_accelerator,
            "cloud.google.com/gke-tpu-topology": kind.topology,
        },
        "containers": [
            {
                "name": "program",
                "image": image,
                "command": escaped(command),
                "ports": [{"containerPort": 8471}, {"containerPort": 8080}],  # libtpu's two
                "resources": {"limits": {"google.com/tpu": chips}},
            }
        ],
    }
    goes = {"type": "DisruptionTarget", "status": "True"}
    ends = {"containerName": "program", "operator": "NotIn", "values": list(RESTARTED)}
    job = {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {"action": "Count", "onPodConditions": [goes]},
                {"action": "FailJob", "onExitCodes": ends},
            ]
        },
        "template": {"spec": pod},
    }
    # Without a rule that matches, a JobSet restarts.
    rule = {"name": "ends", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    # A job has a node pool to itself, which on GKE is a slice.
    alone = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "annotations": alone},
        "spec": {
            "failurePolicy": {"maxRestarts": restarts, "rules": [rule]},
            "replicatedJobs": [
                {"name": "slice", "replicas": num_slices, "template": {"spec": job}}
            ],
        },
    }
