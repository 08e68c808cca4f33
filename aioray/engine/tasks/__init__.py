"""Makes tasks of calls, actors of classes, and placement groups.

Room: engine.
"""
