"""The report of one revision as a static site: one HTML file that needs no network and no server."""
