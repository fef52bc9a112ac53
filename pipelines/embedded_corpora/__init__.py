"""The embedded corpora: hand-written parts, and the build that lays them out in the official raw formats."""
