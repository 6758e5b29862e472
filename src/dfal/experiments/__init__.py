"""Trials: their configuration, their store, and what runs them."""
