"""The studies behind docs/results: the paper's claims, each with the settings it is tested by.

    python -m benchmarks.claims run FOLDER reference --processes 2
    python -m benchmarks.claims table FOLDER reference

The settings are those of this package, written down before the studies run. `run` measures what has
no report yet and can be interrupted; `table` reads the reports and needs neither models nor data.
"""
