//! Small agents after public reports, each with its right answer.

mod dotenv;
mod marks;
mod reports;
mod tracing;
