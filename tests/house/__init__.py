"""Tests of the whole: its structure, what is built of it, documents, whole programs, types."""
