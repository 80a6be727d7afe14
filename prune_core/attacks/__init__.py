"""Adversarial attacks on classifiers and embedding models.

The only folder that imports textattack; importing this package alone imports nothing heavy.
"""
