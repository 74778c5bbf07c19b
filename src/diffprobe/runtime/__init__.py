"""The ground floor: atomic files, locks, keyed randomness, progress, receipts, the frame of every job."""
