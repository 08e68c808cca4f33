"""Which parts of Ray aioray does not have, and what to tell a program that asks for one.

Room: compat, and used by children too, so it imports next to nothing, not even the exceptions: they
may be half loaded when the face is asked for a name. It never looks for Ray itself. The face asks
it about an unknown name, `alias` about a module to be imported.

Three reasons are kept apart, because the reader acts differently on them: what is about a cluster
will not come; what is a library of its own, or a part of Ray's inside, comes with Ray only; and
what this version does not have may come with another. Names are written as under `ray`, with dots
("util.ActorPool"); an entry also answers for everything below it. When a feature arrives, delete
its row: a test fails for a row whose name aioray has. Names that libraries import although they
seldom use them are in `names` too.
"""

from __future__ import annotations

import sys

from aioray import __version__

__all__ = ["COMES_WITH_RAY", "NEEDS_CLUSTER", "NOT_IN_THIS_VERSION", "explain", "missing_attribute"]

NEEDS_CLUSTER = {
    "ClientBuilder": "Ray Client",
    "_private.cluster_utils": "clusters for tests",
    "autoscaler": "the cluster autoscaler",
    "client": "Ray Client",
    "client_builder": "Ray Client",
    "cluster_utils": "clusters for tests",
    "dashboard": "the Ray dashboard",
    "experimental.collective": "collective communication between nodes",
    "experimental.rdt": "transport of tensors between nodes",
    "experimental.register_nixl_memory": "transport of tensors between nodes",
    "experimental.sandbox": "sandboxes of a cluster",
    "experimental.set_target_for_ref": "transport of tensors between nodes",
    "job_config": "job settings of a cluster",
    "job_submission": "Ray Jobs",
    "setup_hook": "cluster set-up hooks",
    "show_in_dashboard": "the Ray dashboard",
    "util.accelerators": "accelerators of cluster nodes",
    "util.client": "Ray Client",
    "util.client_connect": "Ray Client",
    "util.collective": "collective communication between nodes",
    "util.connect": "Ray Client",
    "util.disconnect": "Ray Client",
    "util.spark": "Spark on Ray",
    "util.tpu": "TPU slices of a cluster",
}

COMES_WITH_RAY = {
    "_common": "Ray's own internals",
    "_private": "Ray's own internals",
    "_raylet": "Ray's own internals",
    "air": "Ray AIR",
    "core": "Ray's own internals",
    "cpp_function": "C++ functions",
    "cross_language": "calls between languages",
    "data": "Ray Data",
    "internal": "Ray's own internals",
    "java_actor_class": "Java actors",
    "java_function": "Java functions",
    "llm": "Ray LLM",
    "rllib": "Ray RLlib",
    "scripts": "Ray's command line",
    "serve": "Ray Serve",
    "state": "Ray's own internals",
    "train": "Ray Train",
    "tune": "Ray Tune",
    "util.dask": "Dask on Ray",
    "util.iter": "parallel iterators",
    "util.xgboost": "XGBoost on Ray",
    "widgets": "Ray's own internals",
    "worker": "Ray's own internals",
    "workflow": "Ray Workflows",
}

NOT_IN_THIS_VERSION = {
    "Language": "calls between languages",
    "dag.CollectiveOutputNode": "compiled graphs",
    "dag.DAGContext": "compiled graphs",
    "dag.DAGOperationFuture": "compiled graphs",
    "dag.GPUFuture": "compiled graphs",
    "experimental.channel": "compiled graphs",
    "experimental.compiled_dag_ref": "compiled graphs",
    "experimental.dynamic_resources": "resources that change while a session runs",
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
        if entry in COMES_WITH_RAY:
            return (
                f"ray.{name} ({COMES_WITH_RAY[entry]}) comes with Ray itself; aioray speaks its "
                "core API and does not have it. Use Ray itself for this part of the program."
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
    from aioray.compat.unsupported import UnsupportedAttributeError

    return UnsupportedAttributeError(message)
