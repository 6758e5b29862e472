"""Learn from a few labels and many images without one, given features of all of them."""
