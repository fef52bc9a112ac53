"""Release folders: a mixture and its models with cards, Croissant metadata and a statement that ties them together."""
