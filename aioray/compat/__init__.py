"""What makes aioray pass for Ray: the alias, old and private names, what to say of what is missing.

Room: compat. Knows `aioray.exceptions` and nothing else of the package until a name is asked for,
which it then imports by its name.
"""
