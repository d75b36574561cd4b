"""What a report shows as pictures: figures by matplotlib, and predictions beside the truth, small enough for one HTML file.

Owns their style (`drawing`), which figures there are (`all_figures`; box plots and the heat map in `domain_plots`, all others in
`method_plots`, `cost_plots` and `corruptions`), which images are shown (`gallery`), and the words for screen readers.
"""
