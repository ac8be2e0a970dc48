"""Trainer, schedules, metrics, evaluation, populations, and the steppers that execute steps."""
