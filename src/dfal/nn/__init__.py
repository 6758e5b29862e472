"""Networks: how they are built, trained and run."""
