"""Results that travel between labs: one file that holds them, the check of such a file from anybody, and its recomputation.

Owns the layout of a submission. What is read here comes from strangers: nothing in it is executed, and every size is bounded
before it is read.
"""
