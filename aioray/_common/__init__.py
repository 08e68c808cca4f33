"""What libraries import from `ray._common`.

Room: facade. Nothing in aioray imports it but `_private`.
"""
