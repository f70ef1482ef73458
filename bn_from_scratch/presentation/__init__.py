"""How results are shown: text tables, the style of pictures, HTML pages.

Everything that prints takes them from here; nothing that computes does.
"""
