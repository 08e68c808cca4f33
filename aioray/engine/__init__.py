"""The engine: one per event loop, with its workers.

Room: engine. Carries out what the core decides and reports what happens. `engine` puts it together,
begins and ends it; `client` is what the API talks to, `waiting` how threads wait for that;
`mailbox` feeds the core, `resolve` makes outcomes of its orders; `requests` answers what tasks ask,
`thread` runs an engine for scripts without a loop; `processes`, `objects`, `tasks` and `telemetry`
are its wings. Nothing is imported here: the template is started, by `processes.boot`, before
anything else is loaded.
"""
