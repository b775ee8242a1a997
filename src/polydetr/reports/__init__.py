"""Reports for people: images, terminal tables, HTML pages, the model card, and JSON beside each.

matplotlib and Rich are imported when something is drawn, not with this package.
"""
