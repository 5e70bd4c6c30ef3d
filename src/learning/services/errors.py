"""What services raise."""


class ServiceError(Exception):
    """A server cannot be had, or cannot do what was asked. The message says why, and what to do about it."""
