"""What programs call, behind the names of `aioray`: sessions, objects, actors, progress.

Room: api. The public modules beside this folder belong to it: `aioray.actor`, `remote_function`,
`runtime_context`, and `aioray.util` and `aioray.experimental`.
"""
