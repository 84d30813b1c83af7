//! Answers that are no tunnel: RFC 9457 problem JSON.

use serde_json::json;

/// A refusal on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub status: u16,
    /// Stable; what programs match on.
    pub code: &'static str,
    pub detail: String,
}

impl Problem {
    pub(crate) fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    fn reason(&self) -> &'static str {
        match self.status {
            400 => "Bad Request",
            403 => "Forbidden",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => "Bad Gateway",
        }
    }

    /// The whole response; the connection ends after it.
    pub(crate) fn response(&self) -> Vec<u8> {
        let body = json!({
            "type": format!("urn:rapidclaw:problem:{}", self.code),
            "title": self.reason(), "status": self.status, "code": self.code, "detail": self.detail,
        })
        .to_string();
        // RFC 9110 15.5.6: a 405 names what is allowed.
        let allow = if self.status == 405 { "Allow: CONNECT\r\n" } else { "" };
        format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n{body}",
            self.status,
            self.reason(),
            body.len()
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_whole_response() {
        let text = String::from_utf8(Problem::new(405, "egress_method", "only CONNECT").response()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n") && head.contains("Allow: CONNECT"));
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], "egress_method");
    }
}
