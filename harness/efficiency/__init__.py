"""What a method costs: parameters, multiply-accumulates, latency, throughput, memory.

Owns the protocol of timing and the keys under which the store keeps its figures.
"""
