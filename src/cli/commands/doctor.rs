//! stub
use crate::cli::args::{DoctorArgs, Global};
use crate::cli::exit::{Exit, Failure};
use crate::cli::ui::Printer;
pub async fn run(_: &DoctorArgs, _: &Global, _: &Printer) -> Result<Exit, Failure> {
    Ok(Exit::Done)
}
