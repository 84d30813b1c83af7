//! Names that callers give: they stand in logs, tables and on terminals, so they hold no control characters.

use super::error::ApiError;
use crate::api::chat::ChatRequest;
use crate::api::problem::Problem;
use crate::base::text;

/// The longest name.
const NAME_BYTES: usize = 1024;

/// Refuses a thread, user or idempotency key that cannot be one.
pub fn check(request: &ChatRequest, idempotency_key: Option<&str>) -> Result<(), ApiError> {
    let names = [
        ("thread_id", request.thread_id.as_deref()),
        ("user_id", request.user_id.as_deref()),
        ("Idempotency-Key", idempotency_key),
    ];
    for (field, name) in names.into_iter().filter_map(|(field, name)| Some((field, name?))) {
        let fault = if name.contains(text::is_control) {
            "holds control characters".to_owned()
        } else if name.len() > NAME_BYTES {
            format!("has {} bytes; {NAME_BYTES} are the most", name.len())
        } else {
            continue;
        };
        let problem = Problem::new(422, "field-invalid", "the body is not a chat request");
        return Err(ApiError::new(problem.detail(format!("{field} {fault}"))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_of_one_line() {
        let with = |thread: &str, user: &str, key: &str| {
            let request = ChatRequest {
                thread_id: Some(thread.to_owned()),
                user_id: Some(user.to_owned()),
                ..ChatRequest::default()
            };
            check(&request, Some(key)).map_err(|error| error.0.detail)
        };
        assert!(with("a thread, größer \u{1f600}", "ann@example.com", "k 1").is_ok());
        assert!(with(&"x".repeat(NAME_BYTES), "", "").is_ok());
        for bad in ["a\nforged", "a\rb", "\x1b[2J", "tab\tbed", "nul\0", "\u{9b}31m", "\u{202e}txt", "\u{2028}"] {
            assert_eq!(with(bad, "u", "k").unwrap_err(), "thread_id holds control characters", "{bad:?}");
            assert_eq!(with("t", bad, "k").unwrap_err(), "user_id holds control characters");
            assert_eq!(with("t", "u", bad).unwrap_err(), "Idempotency-Key holds control characters");
        }
        assert_eq!(with(&"x".repeat(1025), "", "").unwrap_err(), "thread_id has 1025 bytes; 1024 are the most");
    }
}
