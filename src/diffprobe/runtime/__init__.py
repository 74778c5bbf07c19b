"""What every room builds on: atomic files, safe removal, locks, keyed randomness, progress, receipts, job frames."""
