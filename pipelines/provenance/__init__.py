"""What ties a result to its inputs: file hashes as DVC takes them, the stage wrapper, lineages, verification."""
