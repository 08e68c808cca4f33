"""A module that is preloaded, and says so."""

import os

with open(os.environ["PRELOADED"], "w") as pipe:
    pipe.write("preloaded\n")
