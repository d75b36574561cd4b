"""Adaptations of SAM that need no prompt, all from the same weights: the rivals of De-LightSAM.

`start` is the pretrained model that each begins with, `adaptation` what all share; then one file for each: `samed`,
`medical_sam_adapter`, `autosam`, `heads` (mask decoder, convolutions or a linear layer on a frozen encoder) and `fine_tuning`.
"""
