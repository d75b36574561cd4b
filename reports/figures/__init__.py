"""What a report shows as pictures: figures by matplotlib, and predictions beside the truth, small enough for one HTML file.

Owns their style, which images are shown, and the words for screen readers.
"""
