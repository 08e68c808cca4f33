"""Tests of what programs call, without workers."""
