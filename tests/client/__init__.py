"""Tests of what API and workers stand on, each part by itself."""
