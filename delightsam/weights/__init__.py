"""Weights of De-LightSAM and of the SAM family: reading, checking, merging, exporting.

Owns every file format; a file is either loaded whole or refused with its fault.
"""
