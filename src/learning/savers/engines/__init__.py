"""Storages: each performs the requests of `learning.savers.records`."""
