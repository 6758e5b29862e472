"""Images: files, folders, arrays, and the data sets that are made of them."""
