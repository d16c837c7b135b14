"""Tables of runs: what to train for every cell, the queue that trains it, and the statistics of what came out."""
