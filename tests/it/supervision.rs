//! Long-lived tasks, replicas and their folders: nothing dies by half.
