"""Tests of options: what is accepted, what it becomes, what is refused."""
