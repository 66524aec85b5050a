"""Locks that allow one process at a time, and end with it.

Nothing is imported here: `file` needs no database, `advisory` needs Optuna and SQLAlchemy.
"""
