"""What the numbers say: means, spreads, comparisons, costs, fairness and findings, as tables and sentences.

Owns every statistic that a report shows; draws and prints nothing.
"""
