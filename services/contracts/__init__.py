"""What services say to each other. No I/O: msgspec and the standard library only.

Open `topics.py` first. `README.md` tells how to add a message.
"""
