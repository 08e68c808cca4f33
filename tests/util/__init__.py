"""Tests of `aioray.util`: the tools that programs import beside the API."""
