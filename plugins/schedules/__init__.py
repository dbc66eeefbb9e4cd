"""Shipped learning-rate schedules."""
