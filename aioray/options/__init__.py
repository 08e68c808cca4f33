"""What users may ask for, checked, completed and frozen: of tasks, actors, methods and sessions.

Room: options. Decides nothing and starts nothing; knows `aioray.exceptions`, `shared`, `compat` and
what is frozen data of `core`.
"""
