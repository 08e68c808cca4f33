"""What runs in child processes: the template that forks workers, and the workers.

Room: worker. Imports little and never the engine, the core or the API, so that a template is up in
the time that its interpreter and cloudpickle need.
"""
