"""Jobs over very many videos, on this machine or on a cluster: what is done, who dies of it, where.

`jobs` says what is done with records, `tries` who died of which, `stages` does it inside any
pipeline of batches, and `ray` has an existing engine, Ray Data, spread it over machines.
"""
