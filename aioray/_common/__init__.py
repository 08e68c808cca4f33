"""What libraries import from `ray._common`.

Room: api. Nothing in aioray imports it but `_private`.
"""
