"""The SAM family as methods: prompted by an oracle's boxes or points, or by the whole image.

`method` is what the harness sees; `light` (LiteMedSAM, MobileSAM: our own code) and `hub` (SAM, MedSAM, SlimSAM, SAM-HQ,
SAM 2: through transformers) are the networks; `prompts` turns masks into boxes and points, `preprocessing` images into
pixels, `lora` adapts an encoder. `prompt_free` holds the adaptations that need no prompt.
"""
