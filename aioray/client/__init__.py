"""What the API and user code in workers stand on: refs, definitions, and the protocol of clients.

Room: client. `protocol` says what a client does; the engine implements it in the driver and
`aioray.worker.client` in workers. Knows neither of the two, and nothing of the API.
"""
