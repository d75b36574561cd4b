"""How De-LightSAM learns: the methods of the bench, their stages, losses, teachers and cached embeddings.

Owns what is needed in training alone; a trained model needs none of it.
"""
