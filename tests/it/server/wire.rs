//! HTTP as strangers speak it: byte by byte, with whatever heads they like.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long a test waits for what is to come at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects to the host and port of a URL.
pub fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.split_once("://").unwrap().1).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One answer: its status and all of it as text. The connection may stay open.
pub fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
                return (status.unwrap_or_else(|| panic!("no answer: {text:?}")), text);
            }
        }
        match stream.read(&mut piece) {
            Ok(0) => panic!("closed after {text:?}"),
            Ok(count) => bytes.extend(&piece[..count]),
            Err(error) => panic!("{error} after {text:?}"),
        }
    }
}

/// Asks on a connection of its own, and reads one answer.
pub fn ask(url: &str, request: &str) -> (u16, String) {
    let mut stream = connect(url);
    stream.write_all(request.as_bytes()).unwrap();
    answer(&mut stream)
}
