"""Train models on a session's labels, rank and review images, and measure progress."""
