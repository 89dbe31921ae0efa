"""TPU slices of a GKE cluster: by xpk, or as a JobSet that kubectl applies.

A pod that is to go is sent SIGTERM and has --grace seconds to save. Exit code 75 starts all pods
again; so do lost nodes and crashes, --max-restarts times in all (75 of a JobSet does not count).
"""

from __future__ import annotations

import argparse
import json
import math
import shlex

from launch import arguments
from launch.plan import RESTART_EXIT_CODE, LaunchError, Plan, Step

# Kind of TPU, as accelerator types begin -> label of its nodes.
NODES = {
    "v4": "tpu-v4-podslice",
    "v5litepod": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
}


def parser() -> argparse.ArgumentParser:
    made = arguments.parser("gke", __doc__)
    made.add_argument("--by", choices=("xpk", "kubectl"), default="xpk", help="default: xpk")
    made.add_argument("--cluster", default="", help="name of the cluster; for xpk")
    made.add_argument("--zone", default="", help="of the cluster; for xpk")
    made.add_argument("--project", default="", help="default: the one that gcloud is set to")
    made.add_argument("--type", required=True, help="v5litepod-16, v6e-64, ...")
    made.add_argument("--topology", default="", help="4x4, 2x2x4, ...; for kubectl")
    made.add_argument("--chips-per-host", type=int, default=4, help="for kubectl (default: 4)")
    made.add_argument("--slices", type=int, default=1, help="of that type (default: 1)")
    made.add_argument(
        "--image",
        default="",
        help="docker image with the code in its working folder, installed with [tpu,cloud]. "
        "Without one xpk puts the current folder onto --base-image and installs it at each start",
    )
    made.add_argument("--base-image", default="python:3.12", help="default: python:3.12")
    made.add_argument("--max-restarts", type=int, default=50, help="default: 50")
    made.add_argument("--grace", type=int, default=120, help="seconds to save in (default: 120)")
    return made


def plan(known: argparse.Namespace, run: list[str]) -> Plan:
    """See the module. Raises LaunchError for what does not fit together."""
    arguments.bucket(run, "a cluster")
    if known.slices < 1:
        raise LaunchError(f"--slices={known.slices}: at least 1")
    return _by_xpk(known, run) if known.by == "xpk" else _by_kubectl(known, run)


def _by_xpk(known: argparse.Namespace, run: list[str]) -> Plan:
    if not known.cluster or not known.zone:
        raise LaunchError("xpk asks for the cluster: give --cluster=NAME and --zone=ZONE")
    place = [f"--cluster={known.cluster}", f"--zone={known.zone}"]
    place += [f"--project={known.project}"] if known.project else []
    # exec: SIGTERM goes to the run, and not to a shell around it.
    line = f"exec {shlex.join(arguments.command(run))}"
    if known.image:
        image = [f"--docker-image={known.image}"]
    else:
        image = [f"--base-docker-image={known.base_image}", "--script-dir=."]
        line = f"pip install --quiet -e '.[tpu,cloud]' && {line}"
    create = [
        *("xpk", "workload", "create", f"--workload={known.name}", *place),
        *(f"--tpu-type={known.type}", f"--num-slices={known.slices}", *image),
        f"--max-restarts={known.max_restarts}",
        # 1 is also what the processes say that another one has left alone.
        f"--restart-on-exit-codes=1,{RESTART_EXIT_CODE}",
        f"--termination-grace-period-seconds={known.grace}",
        *(f"--env={name}={value}" for name, value in arguments.variables(known).items()),
        f"--command={line}",
    ]
    notes = (
        "log: kubectl logs --follow --selector="
        f"jobset.sigs.k8s.io/jobset-name={known.name} --container=jax-tpu, or Cloud Logging",
        f"state: {shlex.join(['xpk', 'workload', 'list', *place])}",
        f"stop: {shlex.join(['xpk', 'workload', 'delete', f'--workload={known.name}', *place])}",
    )
    return Plan({}, [Step("hand the job to the cluster", tuple(create))], notes)


def _by_kubectl(known: argparse.Namespace, run: list[str]) -> Plan:
    kind = known.type.partition("-")[0]
    if kind not in NODES:
        raise LaunchError(f"--type={known.type}: give one of {', '.join(NODES)}, with its size")
    if not known.topology or not known.image:
        raise LaunchError("kubectl asks for --topology=AxB[xC] and --image=NAME")
    try:
        chips = math.prod(int(size) for size in known.topology.split("x"))
    except ValueError:
        raise LaunchError(f"--topology={known.topology} is not of the form 4x4 or 2x2x4") from None
    file = arguments.folder(known) / "jobset.yaml"
    each = min(chips, max(1, known.chips_per_host))
    hosts = chips // each
    content = _jobset(known, run, NODES[kind], hosts, each)
    logs = f"kubectl logs --follow --selector=jobset.sigs.k8s.io/jobset-name={known.name}"
    notes = (f"log: {logs}", f"stop: kubectl delete jobset {known.name}")
    apply = ("kubectl", "apply", f"--filename={file}")
    return Plan({file: content}, [Step("hand the job to the cluster", apply)], notes)


def _jobset(known: argparse.Namespace, run: list[str], node: str, hosts: int, each: int) -> str:
    """The JobSet as YAML; scalars that a user has given are JSON, which YAML reads."""
    words = json.dumps(list(arguments.command(run)))
    env = "".join(
        f"\n                - {{name: {json.dumps(name)}, value: {json.dumps(value)}}}"
        for name, value in arguments.variables(known).items()
    )
    return f"""\
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {json.dumps(known.name)}
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    maxRestarts: {known.max_restarts}
  replicatedJobs:
    - name: slice
      replicas: {known.slices}
      template:
        spec:
          parallelism: {hosts}
          completions: {hosts}
          completionMode: Indexed
          backoffLimit: 0
          podFailurePolicy:
            rules:
              # Told to stop, and saved: the pod comes again.
              - action: Ignore
                onExitCodes: {{operator: In, values: [{RESTART_EXIT_CODE}]}}
              # Its node was taken away.
              - action: Ignore
                onPodConditions: [{{type: DisruptionTarget}}]
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: {known.grace}
              hostNetwork: true
              dnsPolicy: ClusterFirstWithHostNet
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: {node}
                cloud.google.com/gke-tpu-topology: {json.dumps(known.topology)}
              containers:
              - name: tavid-jax
                image: {json.dumps(known.image)}
                command: {words}
                env:{env or " []"}
                ports: [{{containerPort: 8471}}, {{containerPort: 8080}}]
                resources:
                  limits: {{google.com/tpu: {each}}}
"""
