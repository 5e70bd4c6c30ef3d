"""LangGraph persistence: a course in five notebooks, and the checkpointers it leads to."""
