"""Tests of what asyncio services build on: scopes, maps, limits, parts for web frameworks."""
