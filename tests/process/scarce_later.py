"""A module that cannot be loaded for want of descriptors, and says that somebody has tried."""

import errno
import os

with open(os.environ["TRIED"], "w") as pipe:
    pipe.write(f"{os.getpid()}\n")
raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
