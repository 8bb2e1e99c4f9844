"""What all studies share: records, estimates, reports, the runner, and set-ups that several use."""
