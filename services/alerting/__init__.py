"""Decides what an alarm means, remembers it, and answers people. Its hot path needs Kafka only.

Read `app.py` first, then `lifecycle.py`: the state table of every alert.
"""
