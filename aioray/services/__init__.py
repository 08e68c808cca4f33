"""What asyncio services build on the API: scopes, maps, limits, parts for web frameworks.

Room: services. Stands on the public API and on anyio; nothing below knows of it, and a module of it
is loaded when a program first uses it.
"""
