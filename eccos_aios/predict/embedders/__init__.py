"""Embedders: text -> vectors."""
