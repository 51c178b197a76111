"""Several methods trained alike and ranked on classes that none of them saw."""
