"""Figures of a run, drawn from what it logged: PNG files and one page that needs nothing else.

A figure names the metrics that it needs. It is drawn if the run logged them; if not, the report
says so. Nothing is drawn that was not measured.
"""
