"""What is wrong with a bag, or with what a robot sends: found, why it matters, what to do."""
