"""Threads that use a core each, and memory that is used again: what the engine computes with."""
