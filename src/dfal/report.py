from pathlib import Path
def write(store, found, path): return path
