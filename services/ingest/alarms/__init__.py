"""What devices say, on a thread, loop and producer of their own: video can never hold up a press.

webhook -> normaliser -> publisher (or spool) -> `alarms`
"""
