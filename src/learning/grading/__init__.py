"""Grading: what a submitted notebook earned, for one notebook through papermill or for a folder of learners."""
