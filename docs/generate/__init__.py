"""What the documentation shows and code knows better: `python -m docs.generate` writes it all again."""
