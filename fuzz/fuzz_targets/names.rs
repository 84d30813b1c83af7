//! Names, hosts and numbers as people write them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rapidclaw::egress::host::{Authority, Host};
use rapidclaw::manifest::{AllowedHost, is_name, to_name, units};

fuzz_target!(|text: &str| {
    if let Some(name) = to_name(text) {
        assert!(is_name(&name), "{name:?}");
    }
    if let Ok(host) = text.parse::<AllowedHost>() {
        let again: AllowedHost = host.to_string().parse().expect("what is shown is read again");
        assert_eq!(again, host);
    }
    let _ = Host::parse(text);
    if let Ok(authority) = Authority::parse(text) {
        assert_eq!(Authority::parse(&authority.to_string()).ok().as_ref(), Some(&authority));
    }
    if let Some(duration) = units::parse_duration(text) {
        let _ = units::show_duration(duration);
    }
    let _ = units::parse_size(text);
});
