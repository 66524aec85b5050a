"""Masked language modeling from scratch, after RoBERTa, with checkpoints for a trajectory of d90.

Liu et al., *RoBERTa: A Robustly Optimized BERT Pretraining Approach* (2019): byte-level BPE, full
sentences packed across documents, dynamic masking, no next-sentence loss.
`d90.pretraining.checkpoints`
reads what a run has written and loads no torch, so nothing is imported here.
"""
