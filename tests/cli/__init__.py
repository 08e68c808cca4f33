"""Tests of the commands, most of them on the history of a session that never ran."""
