"""The JobSet's manifest against what the API servers take, and against what a slice has."""

import pytest

from launchers.pod.slices import SLICES, find_slice, jobset

# The fields that we use, as JobSet (jobset.x-k8s.io/v1alpha2) and Job (batch/v1) define them: a
# type, a tuple of the values there are, a list of such, or an object. `!` marks a required one.
SCHEMA = {
    "apiVersion!": ("jobset.x-k8s.io/v1alpha2",),
    "kind!": ("JobSet",),
    "metadata!": {
        "name!": str,
        "annotations": {
            "alpha.jobset.sigs.k8s.io/exclusive-topology": ("cloud.google.com/gke-nodepool",)
        },
    },
    "spec!": {
        "failurePolicy": {
            "maxRestarts": int,
            "rules": [
                {
                    "name!": str,
                    "action!": (
                        "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"
                    ),
                    "onJobFailureReasons": [
                        ("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes",
                         "MaxFailedIndexesExceeded", "PodFailurePolicy")
                    ],
                }
            ],
        },
        "replicatedJobs!": [
            {
                "name!": str,
                "replicas": int,
                "template!": {
                    "spec!": {
                        "parallelism": int,
                        "completions": int,
                        "completionMode": ("NonIndexed", "Indexed"),
                        "backoffLimit": int,
                        "podFailurePolicy": {
                            "rules!": [
                                {
                                    "action!": ("Count", "FailIndex", "FailJob", "Ignore"),
                                    "onExitCodes": {
                                        "containerName": str,
                                        "operator!": ("In", "NotIn"),
                                        "values!": [int],
                                    },
                                    "onPodConditions": [
                                        {"type!": str, "status!": ("True", "False", "Unknown")}
                                    ],
                                }
                            ]
                        },
                        "template!": {
                            "spec!": {
                                # With a podFailurePolicy no other value is taken.
                                "restartPolicy!": ("Never",),
                                "terminationGracePeriodSeconds": int,
                                "nodeSelector": {
                                    "cloud.google.com/gke-tpu-accelerator": (
                                        "tpu-v5-lite-podslice", "tpu-v5p-slice", "tpu-v6e-slice"
                                    ),
                                    "cloud.google.com/gke-tpu-topology": str,
                                },
                                "containers!": [
                                    {
                                        "name!": str,
                                        "image!": str,
                                        "command": [str],
                                        "ports": [{"containerPort!": int}],
                                        "resources": {"limits": {"google.com/tpu": int}},
                                    }
                                ],
                            }
                        },
                    }
                },
            }
        ],
    },
}  # fmt: skip


def _check(value, schema, where="manifest"):
    if isinstance(schema, dict):
        assert isinstance(value, dict), where
        known = {name.rstrip("!"): part for name, part in schema.items()}
        assert not set(value) - set(known), (where, set(value) - set(known))
        required = {name[:-1] for name in schema if name.endswith("!")}
        assert not required - set(value), (where, required - set(value))
        for name, part in value.items():
            _check(part, known[name], f"{where}.{name}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        assert value, where
        for part in value:
            _check(part, schema[0], where)
    elif isinstance(schema, tuple):
        assert value in schema, (where, value)
    else:
        assert type(value) is schema, (where, value)


def _manifest(accelerator="v5litepod-16", num_slices=2, command=("launchers.sft",), restarts=3):
    kind = find_slice(accelerator)
    return jobset("sft", kind, num_slices, "image:tag", list(command), restarts)


@pytest.mark.parametrize("accelerator", SLICES)
def test_the_manifest_fits_the_schema_and_asks_for_all_chips(accelerator):
    manifest = _manifest(accelerator, num_slices=2)
    _check(manifest, SCHEMA)
    (job,) = manifest["spec"]["replicatedJobs"]
    pods = job["template"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    # A name counts TensorCores, of which v5p has two on a chip.
    cores = int(accelerator.rpartition("-")[2])
    assert pods["parallelism"] * chips == cores // (2 if "v5p" in accelerator else 1)
    assert pods["completions"] == pods["parallelism"]
    assert job["replicas"] == 2


def test_the_schema_would_see_a_wrong_field():
    manifest = _manifest()
    manifest["spec"]["failurePolicy"]["maxRestart"] = 3
    with pytest.raises(AssertionError):
        _check(manifest, SCHEMA)


@pytest.mark.parametrize(
    ("accelerator", "topology", "hosts"),
    [("v5litepod-16", "4x4", 4), ("v5litepod-256", "16x16", 64), ("v5p-128", "4x4x4", 16),
     ("v6e-8", "2x4", 2), ("v6e-1", "1x1", 1)],
)  # fmt: skip
def test_sizes_of_known_slices(accelerator, topology, hosts):
    pods = _manifest(accelerator)["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert find_slice(accelerator).topology == topology
    assert pods["parallelism"] == hosts


def test_code_75_and_lost_nodes_restart_and_other_codes_end():
    spec = _manifest(restarts=3)["spec"]
    disrupted, ends = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert disrupted["action"] == "Count"  # one failure of none allowed: the job fails, by backoff
    assert ends["action"] == "FailJob"
    assert ends["onExitCodes"]["operator"] == "NotIn"
    assert 75 in ends["onExitCodes"]["values"]
    assert not {1, 2, 3} & set(ends["onExitCodes"]["values"])
    # Only a failure by that rule ends the JobSet; all others restart it.
    assert spec["failurePolicy"]["maxRestarts"] == 3
    (rule,) = spec["failurePolicy"]["rules"]
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_kubernetes_leaves_dollar_signs_of_the_command_alone():
    pod = _manifest(command=["run", "--prompt=$(HOME) costs $5"])["spec"]["replicatedJobs"][0]
    (container,) = pod["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["run", "--prompt=$$(HOME) costs $$5"]


def test_an_unknown_accelerator_is_refused_by_name():
    with pytest.raises(ValueError, match=r"unknown accelerator 'v5e-16': there are v5litepod-1, "):
        find_slice("v5e-16")
