"""LangGraph: the only place of the runner that imports `langgraph` and `langchain_core`.

`adapter.py` is what the core sees of it. This module imports nothing, so that `step_key` costs a project's own
tests no more than LangGraph itself.
"""
