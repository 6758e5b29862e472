"""What a session learns: training, ranking, review and progress."""
