"""What libraries import from `ray._private.runtime_env`.

Room: api.
"""
