"""Evidence for auditors: `video` becomes objects and rows, and pictures come out again, exactly.

Open `app.py` first: it lists the flow.
"""
