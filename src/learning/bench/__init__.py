"""Measurements of the savers, side by side with those that others have published: `learning bench savers`."""
