"""Faults to try a storage with: a process that is killed, a machine whose power is cut, requests that go wrong."""
