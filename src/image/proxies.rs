//! The proxies that steps of builds go through.

use crate::base::env;
use crate::client::is_loopback;
use reqwest::Url;

/// Those of this machine, but for the ones that only it can reach: variables and their values.
pub fn proxies() -> Vec<(String, String)> {
    let set = env::PROXIES.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name)?)));
    set.filter(|(name, value)| name.eq_ignore_ascii_case("NO_PROXY") || !is_here(value)).collect()
}

/// Whether a proxy listens on loopback. As curl takes it: the scheme may be left out.
fn is_here(proxy: &str) -> bool {
    let spelled = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    Url::parse(&spelled).is_ok_and(|url| url.host_str().is_some_and(is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_on_loopback_is_out_of_a_builds_reach() {
        for here in
            ["http://localhost:3128", "http://ann:secret@127.0.0.1:3128", "127.0.0.1:3128", "http://[::1]:3128/"]
        {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in ["http://proxy.example.com:3128", "10.0.0.1:3128", "http://localhost.example.com", "?"] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }
}
