"""Selection from pools that are larger than memory: read in blocks, ranked in parts, merged."""
