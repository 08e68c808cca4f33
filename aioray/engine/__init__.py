"""The engine: one per event loop, with its workers.

Room: engine. Carries out what the core decides and reports what happens. `engine` puts it together
and serves as the API's client, `requests` answers what tasks ask, `thread` runs an engine for
scripts without a loop; `processes`, `objects`, `tasks` and `telemetry` are its wings. Nothing is
imported here: the template is started, by `processes.boot`, before anything else is loaded.
"""
