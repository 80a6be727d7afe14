"""Attacks on a classifier: the only folder that imports textattack. Importing this package alone imports nothing heavy."""
