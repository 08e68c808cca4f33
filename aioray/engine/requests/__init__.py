"""What workers ask of the engine, subject by subject, and who hands it on.

Room: engine.
"""
