"""The keywords of `remote`, `options`, `method` and `init`, with their types, for type checkers.

Room: options. Nobody imports it at run time: it says to checkers and editors what `options`,
`actor` and `checks` check, and a test compares the names. What the options mean is
said by the functions that take them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, TypedDict

from aioray.core.intensity import RestartPolicy
from aioray.core.retries import RetryPolicy
from aioray.options.runtime_env import RuntimeEnv
from aioray.shared.crash_breaker import CrashBreaker
from aioray.shared.limiter import Limiter

__all__ = [
    "ActorCallOptions",
    "ActorClassOptions",
    "ActorKeywords",
    "CallOptions",
    "CommonOptions",
    "FunctionOptions",
    "InitSettings",
    "MethodKeywords",
]

RetryExceptions = bool | Sequence[type[Exception]] | Callable[[Any], bool] | None
RuntimeEnvironment = RuntimeEnv | Mapping[str, Any] | None


class CommonOptions(TypedDict, total=False):
    """The options of functions and of classes."""

    num_cpus: float | None
    num_gpus: float | None
    memory: float | None
    resources: Mapping[str, float] | None
    priority: float | None
    timeout: float | None
    deadline: float | None
    stall_timeout: float | None
    memory_limit: float | None
    name: str | None
    runtime_env: RuntimeEnvironment
    enable_task_events: bool | None
    scheduling_strategy: Any
    placement_group: Any
    placement_group_bundle_index: int
    placement_group_capture_child_tasks: bool | None
    accelerator_type: str | None
    label_selector: Mapping[str, str] | None
    fallback_strategy: list[dict[str, Any]] | None
    object_store_memory: float | None
    _labels: Mapping[str, str] | None


class CallOptions(CommonOptions, total=False):
    """The options that `.options()` of a remote function takes, but num_returns."""

    max_retries: int | None
    retry_exceptions: RetryExceptions
    retry: RetryPolicy | None
    breaker: CrashBreaker | None
    limiter: Limiter | None
    max_pending: int | None
    _generator_backpressure_num_objects: int | None


class FunctionOptions(CallOptions, total=False):
    """The options that `@remote` of a function takes, but num_returns."""

    max_calls: int | None
    _num_objects_per_yield: int


class ActorKeywords(CommonOptions, total=False):
    """The options that `.options()` of an actor class takes."""

    max_restarts: int | None
    restart_policy: RestartPolicy | None
    max_task_retries: int | None
    max_concurrency: int | None
    max_pending_calls: int | None
    allow_out_of_order_execution: bool | None
    lifetime: Literal["detached", "non_detached"] | None
    namespace: str | None
    get_if_exists: bool | None
    interruptible: bool | None
    checkpoint_every: int
    enable_tensor_transport: bool | None
    _actor_generator_backpressure_num_objects: int | None


class ActorClassOptions(ActorKeywords, total=False):
    """The options that `@remote` of a class takes."""

    concurrency_groups: dict[str, int] | None


class MethodKeywords(TypedDict, total=False):
    """The options that `@method` takes, but num_returns."""

    concurrency_group: str | None
    max_task_retries: int | None
    retry_exceptions: RetryExceptions
    timeout: float | None
    deadline: float | None
    stall_timeout: float | None
    memory_limit: float | None
    limiter: Limiter | None
    interruptible: bool | None
    enable_task_events: bool | None
    tensor_transport: str | None
    _generator_backpressure_num_objects: int | None
    _num_objects_per_yield: int | None


class ActorCallOptions(MethodKeywords, total=False):
    """The options that `.options()` of an actor's method takes, but num_returns."""

    name: str | None
    _labels: Mapping[str, str] | None


class InitSettings(TypedDict, total=False):
    """The arguments that `init` and `Engine` take beside the address."""

    num_cpus: int | None
    num_gpus: int | None
    resources: Mapping[str, float] | None
    labels: Mapping[str, str] | None
    object_store_memory: int | None
    object_spilling_directory: str | os.PathLike[str] | None
    namespace: str | None
    runtime_env: RuntimeEnvironment
    log_to_driver: bool | None
    configure_logging: bool | None
    logging_level: int | str | None
    logging_format: str | None
    logging_config: Any
    ignore_reinit_error: bool | None
    preload: Sequence[str] | None
    context: Sequence[ContextVar[Any]] | None
    forward_logging: bool | int | str | None
    local_mode: bool | None
    max_pending: int | None
    loop: Literal["auto", "thread", "running"] | None
    retry_seed: int | None
    history: int | None
    redact_history: bool | None
    max_worker_rss: float | None
    max_worker_age: float | None
    _memory: int | None
    _temp_dir: str | os.PathLike[str] | None
    _tracing_startup_hook: str | None
    # Without a meaning on one machine, or refused with a value.
    job_config: Any
    include_dashboard: bool | None
    dashboard_host: str | None
    dashboard_port: int | None
    enable_resource_isolation: bool | None
    cgroup_path: str | None
    system_reserved_cpu: float | None
    system_reserved_memory: int | None
    proxy_server_url: str | None
    _cgroup_path: str | None
    _driver_object_store_memory: int | None
    _enable_object_reconstruction: bool | None
    _metrics_export_port: int | None
    _node_ip_address: str | None
    _node_name: str | None
    _plasma_directory: str | None
    _redis_password: str | None
    _redis_username: str | None
    _system_config: dict[str, Any] | None
