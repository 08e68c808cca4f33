"""Which parts of Ray aioray does not have, and what to tell a program that asks for one.

Room: facade, and used by children too, so it imports next to nothing, not even the exceptions: they
may be half loaded when the face is asked for a name. It never looks for Ray itself. The face asks
it about an unknown name, `ray_alias` about a module to be imported.

Two reasons are kept apart, because the reader acts differently on them: a feature that needs a Ray
cluster will not come, one that this version does not have may come with another. Names are written
as under `ray`, with dots ("util.ActorPool"); an entry also answers for everything below it. When a
feature arrives, delete its row: a test fails for a row whose name aioray has.
"""

from __future__ import annotations

import sys

from aioray import __version__

__all__ = ["NEEDS_CLUSTER", "NOT_IN_THIS_VERSION", "explain", "missing_attribute"]

NEEDS_CLUSTER = {
    "_private": "Ray's own internals",
    "_raylet": "Ray's own internals",
    "air": "Ray AIR",
    "autoscaler": "the cluster autoscaler",
    "client": "Ray Client",
    "cluster_utils": "clusters for tests",
    "core": "Ray's own internals",
    "cpp_function": "C++ functions",
    "cross_language": "calls between languages",
    "dashboard": "the Ray dashboard",
    "data": "Ray Data",
    "experimental.collective": "collective communication between nodes",
    "experimental.rdt": "transport of tensors between nodes",
    "experimental.sandbox": "sandboxes of a cluster",
    "internal": "Ray's own internals",
    "java_actor_class": "Java actors",
    "java_function": "Java functions",
    "job_config": "job settings of a cluster",
    "job_submission": "Ray Jobs",
    "llm": "Ray LLM",
    "rllib": "Ray RLlib",
    "scripts": "Ray's command line",
    "serve": "Ray Serve",
    "setup_hook": "cluster set-up hooks",
    "show_in_dashboard": "the Ray dashboard",
    "train": "Ray Train",
    "tune": "Ray Tune",
    "util.accelerators": "accelerators of cluster nodes",
    "util.client": "Ray Client",
    "util.client_connect": "Ray Client",
    "util.collective": "collective communication between nodes",
    "util.dask": "Dask on Ray",
    "util.spark": "Spark on Ray",
    "util.tpu": "TPU slices of a cluster",
    "util.xgboost": "XGBoost on Ray",
    "workflow": "Ray Workflows",
}

NOT_IN_THIS_VERSION = {
    "ActorClassID": "identifier classes",
    "ActorID": "identifier classes",
    "FunctionID": "identifier classes",
    "JobID": "identifier classes",
    "LOCAL_MODE": "constants of Ray's worker modes",
    "Language": "calls between languages",
    "LoggingConfig": "structured logging",
    "NodeID": "identifier classes",
    "ObjectID": "identifier classes",
    "PlacementGroupID": "placement groups",
    "SCRIPT_MODE": "constants of Ray's worker modes",
    "TaskID": "identifier classes",
    "UniqueID": "identifier classes",
    "WORKER_MODE": "constants of Ray's worker modes",
    "WorkerID": "identifier classes",
    "dag": "task graphs",
    "experimental.channel": "compiled graphs",
    "experimental.compiled_dag_ref": "compiled graphs",
    "experimental.dynamic_resources": "resources that change while a session runs",
    "experimental.get_local_object_locations": "where objects lie",
    "experimental.get_object_locations": "where objects lie",
    "experimental.internal_kv": "Ray's key-value store",
    "experimental.locations": "where objects lie",
    "experimental.multiprocessing": "the old name of ray.util.multiprocessing",
    "experimental.set_resource": "resources that change while a session runs",
    "experimental.shuffle": "the shuffle example",
    "util.debugpy": "the remote debugger",
    "util.pdb": "the remote debugger",
    "util.rpdb": "the remote debugger",
}


def explain(name: str) -> str | None:
    """Say why `ray.<name>` is missing, or return None if it is no feature of Ray that we know.

    `name` is dotted and without the leading "ray.". The entry of the name itself or of the nearest
    name above it answers.
    """
    entry = name
    while entry:
        if entry in NEEDS_CLUSTER:
            return (
                f"ray.{name} ({NEEDS_CLUSTER[entry]}) needs a Ray cluster; aioray runs on one "
                "machine and does not have it. Use Ray itself for this part of the program."
            )
        if entry in NOT_IN_THIS_VERSION:
            return (
                f"ray.{name} ({NOT_IN_THIS_VERSION[entry]}) is not available in this version of "
                f"aioray ({__version__}). Leave it out, or run this program with Ray itself."
            )
        entry = entry.rpartition(".")[0]
    return None


def missing_attribute(module: str, name: str) -> AttributeError:
    """Build the error for `name`, which aioray's module `module` does not have.

    An UnsupportedAttributeError if Ray has it, else the plain AttributeError of any module.
    """
    below = module.partition(".")[2]
    message = explain(f"{below}.{name}" if below else name)
    if message is None:
        text = f"module {module!r} has no attribute {name!r}"
        return AttributeError(text, name=name, obj=sys.modules[module])  # for "Did you mean"
    from aioray.unsupported import UnsupportedAttributeError

    return UnsupportedAttributeError(message)
