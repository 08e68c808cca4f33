"""What libraries import from `ray._private.runtime_env.constants`.

Room: api.
"""

__all__ = ["RAY_JOB_CONFIG_JSON_ENV_VAR"]

RAY_JOB_CONFIG_JSON_ENV_VAR = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray Jobs, so never set here
