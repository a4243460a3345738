"""Object stores behind one port. Knows keys, versions and retention; nothing of cameras."""
