# (filled in by the house)
