"""Proves that a service on aioray answers everything: a FastAPI program under load that goes wrong.

`app` is the service, as its author would write it; `load` is the clients, who leave, and the judge.
"""
