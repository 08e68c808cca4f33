"""aioray under the name `ray`, for interpreters that find this folder on their path.

Room: compat: it is loaded as the module `ray`, and imports aioray. The
folder above it is handed to child processes by PYTHONPATH, see `aioray.ray_alias`, or copied to
where packages are, by `aioray alias install`. An interpreter without aioray, which has come to the
folder by the environment of its parent, gets the Ray that it would have had.
"""

import os
import sys

_AIORAY_ALIAS = True


def _step_aside() -> None:
    """Import the module `ray` that there would be without this folder."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = list(sys.path)
    sys.path[:] = [entry for entry in path if os.path.abspath(entry) != folder]
    del sys.modules["ray"]
    try:
        __import__("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ModuleNotFoundError(
            f"No module named 'ray': {folder} on the path means aioray, which {sys.executable} "
            "cannot import. Install it there, or take that folder out of PYTHONPATH.",
            name="ray",
        ) from None
    finally:
        sys.path[:] = path


try:
    from aioray import ray_alias
except (ImportError, SyntaxError):  # not there, or not for so old an interpreter
    _step_aside()
else:
    _folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Where the folder was installed, every process finds it without being told.
    ray_alias.install(inherit=None if _folder == ray_alias.PATH else False)
