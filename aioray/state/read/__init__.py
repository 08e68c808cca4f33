"""Finds sessions, living and ended, and reads what happened in them and what is going on.

Room: state.
"""
