"""Cameras, bells and lights in. `app.py` shows the whole service; `registry.py` what it knows of a city."""
