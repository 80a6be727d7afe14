"""Adversarial attacks on classifiers.

The only folder that imports textattack; importing this package alone imports nothing heavy.
"""
