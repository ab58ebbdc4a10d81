"""The report of studies: one HTML file without any network, its figures as PNG and SVG, its tables as CSV.

It reads ledgers and the folders of studies, trains nothing and looks at no test image that was not looked at before.
"""
