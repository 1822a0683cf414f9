"""The report page: parts, plots, templates."""
