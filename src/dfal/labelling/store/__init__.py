"""What a session stores: an append-only log, and the state that its rows come to."""
