"""Runs an actor: its instance, and the threads or event loops on which its methods run.

Room: worker.
"""
