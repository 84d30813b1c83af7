//! What is killed, filled, cut off, set back or lost, and how all goes on from there.

mod backup;
mod clock;
mod faults;
mod surroundings;
