"""Functions on text, from cleaning to index terms.

Code that needs a library or a model belongs elsewhere.
"""
