"""Methods that De-LightSAM is compared with. They import nothing of the harness and work without it."""
