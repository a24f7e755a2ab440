"""Published and rendered sources, one file each."""
