//! The listeners: what happens before a key is known, time-outs, limits, who may do what.
