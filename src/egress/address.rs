//! Which addresses may be connected to on behalf of a replica. Pure.
//!
//! Private addresses are allowed (DESIGN.md 10): databases live there. What answers on the machine
//! itself, on its link, or as a cloud's metadata service is not, in any spelling.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 127.0.0.0/8, `::1`.
    Loopback,
    /// 0.0.0.0/8 ("this network", RFC 1122 3.2.1.3; Linux connects it to the machine itself), `::`.
    Unspecified,
    /// 169.254.0.0/16 (RFC 3927), `fe80::/10` (RFC 4291 2.5.6).
    LinkLocal,
    /// A cloud's metadata or host service.
    Metadata,
    /// 224.0.0.0/4 (RFC 5771), `ff00::/8` (RFC 4291 2.7).
    Multicast,
    /// 255.255.255.255 (RFC 919).
    Broadcast,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Loopback => "loopback",
            Self::Unspecified => "unspecified",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
        })
    }
}

/// Metadata and host services outside the link-local range: Alibaba, Oracle, Azure.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// Whether `address` may be connected to, and if not, why.
pub fn judge(address: IpAddr) -> Result<(), Refusal> {
    match address {
        IpAddr::V4(address) => judge_v4(address),
        IpAddr::V6(address) => judge_v6(address),
    }
}

fn judge_v4(address: Ipv4Addr) -> Result<(), Refusal> {
    if METADATA_V4.contains(&address) || address == Ipv4Addr::new(169, 254, 169, 254) {
        Err(Refusal::Metadata)
    } else if address.is_loopback() {
        Err(Refusal::Loopback)
    } else if address.octets()[0] == 0 {
        Err(Refusal::Unspecified)
    } else if address.is_link_local() {
        Err(Refusal::LinkLocal)
    } else if address.is_multicast() {
        Err(Refusal::Multicast)
    } else if address.is_broadcast() {
        Err(Refusal::Broadcast)
    } else {
        Ok(())
    }
}

fn judge_v6(address: Ipv6Addr) -> Result<(), Refusal> {
    if address.is_unspecified() {
        return Err(Refusal::Unspecified);
    }
    if address.is_loopback() {
        return Err(Refusal::Loopback);
    }
    if address.is_multicast() {
        return Err(Refusal::Multicast);
    }
    if address.is_unicast_link_local() {
        return Err(Refusal::LinkLocal);
    }
    let parts = address.segments();
    // AWS (fd00:ec2::254 and its siblings), Google (fd20:ce::254), Scaleway (fd00:42::42).
    if parts[..2] == [0xfd00, 0x0ec2] || parts[..2] == [0xfd20, 0x00ce] || parts[..2] == [0xfd00, 0x0042] {
        return Err(Refusal::Metadata);
    }
    for inner in embedded(address).into_iter().flatten() {
        judge_v4(inner)?;
    }
    Ok(())
}

/// The IPv4 addresses that an IPv6 address may be turned into on its way.
#[expect(clippy::match_same_arms, reason = "each form stands beside its source")]
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let parts = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match parts {
        // Mapped ::ffff:a.b.c.d and compatible ::a.b.c.d (RFC 4291 2.5.5), translated ::ffff:0:a.b.c.d (RFC 2765),
        // NAT64's well-known prefix 64:ff9b::/96 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => [v4(high, low), None],
        // NAT64's local prefix 64:ff9b:1::/48 (RFC 8215), in the /96 and /48 forms of RFC 6052 2.2; a form whose
        // place is empty is not the one meant.
        [0x64, 0xff9b, 1, first, second, third, high, low] => {
            let around_u = v4(first, (second << 8) | (third >> 8));
            let given = |inner: Option<Ipv4Addr>| inner.filter(|inner| !inner.is_unspecified());
            [given(v4(high, low)), given(around_u)]
        }
        // 6to4 2002:AABB:CCDD::/48 (RFC 3056).
        [0x2002, high, low, ..] => [v4(high, low), None],
        // Teredo 2001:0:SERVER:…:CLIENT, the client's bits inverted (RFC 4380 4).
        [0x2001, 0, high, low, _, _, client_high, client_low] => [v4(high, low), v4(!client_high, !client_low)],
        // ISATAP …:0:5efe:a.b.c.d (RFC 5214 6.1).
        [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => [v4(high, low), None],
        _ => [None, None],
    }
}

/// Whether `address` lies in a private network: RFC 1918, RFC 6598 (100.64.0.0/10), RFC 4193 (`fc00::/7`).
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_private() || (address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(text: &str) -> Result<(), Refusal> {
        judge(text.parse().unwrap())
    }

    #[test]
    fn what_is_on_the_machine_its_link_or_a_clouds_metadata_is_refused_in_every_spelling() {
        for (text, why) in [
            ("127.0.0.1", Refusal::Loopback),
            ("127.255.0.9", Refusal::Loopback),
            ("::1", Refusal::Loopback),
            ("::ffff:127.0.0.1", Refusal::Loopback),
            ("::127.0.0.1", Refusal::Loopback),
            ("::ffff:0:127.0.0.1", Refusal::Loopback),
            ("64:ff9b::127.0.0.1", Refusal::Loopback),
            ("64:ff9b:1::127.0.0.1", Refusal::Loopback),
            ("64:ff9b:1:7f00:0:100::", Refusal::Loopback),
            ("2002:7f00:1::", Refusal::Loopback),
            ("2001:0:7f00:1::", Refusal::Loopback),
            ("2001:0:102:304:0:0:80ff:fffe", Refusal::Loopback),
            ("2a00::5efe:127.0.0.1", Refusal::Loopback),
            ("0.0.0.0", Refusal::Unspecified),
            ("0.1.2.3", Refusal::Unspecified),
            ("::", Refusal::Unspecified),
            ("169.254.1.1", Refusal::LinkLocal),
            ("fe80::1", Refusal::LinkLocal),
            ("febf::1", Refusal::LinkLocal),
            ("::ffff:169.254.1.1", Refusal::LinkLocal),
            ("169.254.169.254", Refusal::Metadata),
            ("fd00:ec2::254", Refusal::Metadata),
            ("fd20:ce::254", Refusal::Metadata),
            ("2002:a9fe:a9fe::", Refusal::Metadata),
            ("64:ff9b::a9fe:a9fe", Refusal::Metadata),
            ("100.100.100.200", Refusal::Metadata),
            ("168.63.129.16", Refusal::Metadata),
            ("224.0.0.1", Refusal::Multicast),
            ("ff02::1", Refusal::Multicast),
            ("255.255.255.255", Refusal::Broadcast),
        ] {
            assert_eq!(judged(text), Err(why), "{text}");
        }
    }

    #[test]
    fn public_and_private_addresses_pass() {
        for text in [
            "1.1.1.1",
            "10.0.0.5",
            "172.16.9.1",
            "192.168.0.7",
            "100.64.0.1",
            "fd12::7",
            "2606:4700::1111",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1:808:8:800::",
            "2002:808:808::",
        ] {
            assert_eq!(judged(text), Ok(()), "{text}");
        }
        for (text, private) in [
            ("10.1.2.3", true),
            ("100.127.0.1", true),
            ("fd12::7", true),
            ("::ffff:10.0.0.1", true),
            ("100.128.0.1", false),
            ("8.8.8.8", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(is_private(text.parse().unwrap()), private, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_wrapping_saves_a_refused_address(low in 0_u32..0x0100_0000) {
            let inner = Ipv4Addr::from(0x7f00_0000 | low);
            let [a, b, c, d] = inner.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for wrapped in [
                inner.to_ipv6_mapped(),
                inner.to_ipv6_compatible(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 7, 0, 0, 0, 1),
            ] {
                prop_assert!(judge(wrapped.into()).is_err());
            }
        }
    }
}
