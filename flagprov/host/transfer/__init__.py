"""Bringing files from host to host: one stream of chunks through a chain, each chunk checked on arrival.

A node pulls from the nearest node before it in the chain and serves the ones behind it meanwhile. It lives
for one transfer. A dead node is stepped over, a late one begins wherever chunks are.
"""
