"""`python -m aioray`: the same as the command `aioray`.

Room: cli. It calls `aioray.cli.main` and holds nothing else.
"""

from aioray.cli import main

if __name__ == "__main__":
    main()
