"""Alembic's steps from one release's tables to the next. Never edited once released."""
