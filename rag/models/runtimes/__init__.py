"""Ways to run a model, one module each, and the helpers they share.

`rag.models.registry` lists the runtimes. Code that does not run or convert a model belongs in
`rag.models`.
"""
