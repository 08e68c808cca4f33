"""The tests; a package, so that workers can import the functions that tests send them."""
