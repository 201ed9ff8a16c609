"""Reporting: from run folders to the page that management decides by, its ledger, its spreadsheet and the model card.

Nothing here loads a model or an image: a report is made of what training and evaluation have written down.
"""
