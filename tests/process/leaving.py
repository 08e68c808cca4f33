"""What tasks leave to the end of their process. Each note goes into a file of its own."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import tempfile
import threading
import types
import weakref

held: list[object] = []


class Witness:
    """Notes its end, which needs a global of its module."""

    def __init__(self, path):
        self.path = path

    def __del__(self):
        write(self.path)


def write(path, text="noted"):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def hook(path):
    atexit.register(write, path)


def open_file(path):
    file = open(path, "w", encoding="utf-8")  # noqa: SIM115
    file.write("noted")
    held.append(file)


def finalizer(path):
    held.append(Witness(path))


def circle(path):
    witness = Witness(path)
    witness.itself = witness


def weak_finalizer(path):
    kept = set()
    held.append(kept)
    weakref.finalize(Witness, write, path)


def generator(path):
    def steps():
        try:
            yield
        finally:
            write(path)

    begun = steps()
    next(begun)
    held.append(begun)


def thread(path):
    def outlive():
        threading.main_thread().join()
        write(path)

    threading.Thread(target=outlive).start()


def temporary(path):
    folder = tempfile.TemporaryDirectory(prefix="leaving-")
    held.append(folder)
    held.append(Witness(path))
    return folder.name


def file_of_c(path):
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    libc.fputs.argtypes = ctypes.c_char_p, ctypes.c_void_p
    libc.fputs(b"noted", libc.fopen(path.encode(), b"w"))


def module_without_a_file(path):
    module = types.ModuleType("made_here")
    sys.modules["made_here"] = module
    module.witness = Witness(path)


def main_module(path):
    import __main__

    __main__.witness = Witness(path)


def lingering_module(path):
    """One that somebody holds whom nobody takes apart."""
    module = types.ModuleType("lingering")
    sys.modules["lingering"] = module
    module.witness = Witness(path)
    os.lingering = module


# Those that the interpreter's own end does not forget either, and others.
WAYS = [hook, open_file, weak_finalizer, circle, thread, file_of_c]
ALL_WAYS = [
    *WAYS,
    finalizer,
    generator,
    temporary,
    module_without_a_file,
    main_module,
    lingering_module,
]


def leave(number, path, is_foreign):
    """Do one of them; where its process then is, and what else to look for."""
    if is_foreign:
        import psutil  # has an extension module

        held.append(psutil)
    return os.getpid(), ALL_WAYS[number](path)


def is_plain(module):
    """Whether this process would be ended by `ending` after importing a module."""
    __import__(module)
    from aioray.worker import ending

    found = ending._users_modules()
    return found is not None and "aioray" not in found and "os" not in found
