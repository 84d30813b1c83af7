//! What a run cost: tokens times the price in effect, from the `genai-prices` database. Never a guess.

use genai_prices::{Calculator, PriceRequest, Usage, UsageKey};

/// Tokens of one model call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tokens {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// Of the input, read from the provider's cache.
    pub cache_read: u64,
    /// Of the input, written to the provider's cache.
    pub cache_write: u64,
}

/// What was used, by one attempt at a run or by all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bill {
    /// Tokens in.
    pub input_tokens: i64,
    /// Tokens out.
    pub output_tokens: i64,
    /// US dollars, where every call is metered and has a price.
    pub cost: Option<f64>,
}

impl Default for Bill {
    fn default() -> Self {
        Self { input_tokens: 0, output_tokens: 0, cost: Some(0.0) }
    }
}

impl Bill {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost: self.cost.zip(other.cost).map(|(one, two)| one + two),
        }
    }
}

/// Loads the price database (tens of milliseconds), so that no request has to. To be called on a blocking thread.
pub fn load_prices() {
    let _ = Calculator::bundled();
}

/// US dollars of one call; nothing when the model is not known.
pub fn price(model: Option<&str>, provider: Option<&str>, tokens: Tokens) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2^52")]
    let count = |tokens: u64| tokens as f64;
    let mut usage =
        Usage::from([(UsageKey::INPUT_TOKENS, count(tokens.input)), (UsageKey::OUTPUT_TOKENS, count(tokens.output))]);
    if tokens.cache_read > 0 {
        usage.insert(UsageKey::CACHE_READ_TOKENS, count(tokens.cache_read));
    }
    if tokens.cache_write > 0 {
        usage.insert(UsageKey::CACHE_WRITE_TOKENS, count(tokens.cache_write));
    }
    let request = PriceRequest::new(model?, &usage);
    let prices = Calculator::bundled();
    let known = provider.filter(|id| prices.providers().any(|provider| provider.id() == *id));
    let request = match known {
        Some(id) => request.with_provider_id(id),
        None => request,
    };
    prices.calculate(&request).ok().map(|price| price.total_price)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_model_costs_tokens_times_price() {
        let tokens = Tokens { input: 1_000_000, output: 1_000_000, ..Tokens::default() };
        let cost = price(Some("gpt-4o-mini"), Some("openai"), tokens).unwrap();
        assert!((cost - 0.75).abs() < 1e-9, "{cost}");
        assert!(price(Some("gpt-4o-mini"), Some("no-such-provider"), tokens).is_some());
    }

    #[test]
    fn an_unknown_model_has_no_price() {
        assert_eq!(price(Some("no-such-model-of-ours"), None, Tokens::default()), None);
        assert_eq!(price(None, Some("openai"), Tokens::default()), None);
    }
}
