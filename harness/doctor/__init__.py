"""What `python -m harness doctor` finds out: facts of this machine and installation, and what follows from them.

Nothing here imports torch or Ray: they are tried in processes of their own, which may crash or hang.
"""
