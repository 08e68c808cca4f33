"""The names that programs import from `ray.types`.

Room: api. Ray keeps a generic stand-in for its reference class here, meant for annotations such
as `ObjectRef[int]`. In aioray the class itself is generic, so this module only passes it on.
Nothing may be defined here: a second class of that name would fail every isinstance check.
"""

from aioray.client.refs import ObjectRef

__all__ = ["ObjectRef"]
