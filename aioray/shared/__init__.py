"""What driver, template and worker have in common: ids, frames, bytes, shared memory, Linux.

Room: shared. Known to every room but core, and knows of the package only itself, `core` and
`aioray.exceptions`. Children load much of it, so each module imports as little as it can.
"""
