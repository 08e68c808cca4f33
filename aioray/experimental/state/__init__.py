"""The old place of the state API, which is in `aioray.util.state`.

Room: api.
"""
