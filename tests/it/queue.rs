//! The run queue and the committer: claims, order, bounds, batches, errors of single items.
