"""The paper's tables and figures: compositions of measurements, one file each.

models x tasks x methods -> cells -> one measurement each -> summaries -> a document
"""
