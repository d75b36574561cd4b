"""The network: encoder, controllers, prompts and decoder, from images to logits and masks.

Owns every module with parameters that a trained model has; knows neither files nor training.
"""
