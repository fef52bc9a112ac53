"""EQ-Bench v2: a second task that needs no judge, and the scores of its recorded runs."""
