"""The studies behind docs/results: the paper's claims, each with the settings it is tested by.

    python -m benchmarks.claims run FOLDER reference --processes 2
    python -m benchmarks.claims table FOLDER reference

| claim | asks |
|---|---|
| `repetitions` | whether studies with other seeds agree, also with a dense reference |
| `reference` | what d90 is, of two models on seven tasks, by DID and by SAID |
| `trajectory` | whether pre-training lowers it |
| `sizes` | whether larger models have a lower one, at one loss and at one number of tokens |
| `lowering` | which scale policy, projection or grouping lowers it |
| `generation` | what d90 is, of a causal language model on two tasks |
| `nested` | whether one run gives the whole curve |

`trajectory` and `sizes` need the models of `run FOLDER pretraining` first. The settings are those
of this package, written down before the studies run. `run` measures what has no result yet and can
be interrupted; `table` reads the results and needs neither models nor data.
"""
