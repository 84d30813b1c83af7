//! What a token's role allows.

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Looks at agents, their runs and logs; pulls images.
    Read,
    /// Deploys, rolls back and pushes images: what CI does.
    Deploy,
    /// All else: secrets, keys, scale, and what destroys.
    Administer,
}

/// Whether a role allows it. One that this version does not know allows nothing.
pub fn allows(role: &str, right: Right) -> bool {
    match role {
        "admin" => true,
        "deploy" => matches!(right, Right::Read | Right::Deploy),
        "read" => right == Right::Read,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_allows_what_the_one_below_does_and_strange_ones_nothing() {
        let rights = [Right::Read, Right::Deploy, Right::Administer];
        for (role, wanted) in [
            ("admin", [true; 3]),
            ("deploy", [true, true, false]),
            ("read", [true, false, false]),
            ("Admin", [false; 3]),
        ] {
            assert_eq!(rights.map(|right| allows(role, right)), wanted, "{role}");
        }
    }
}
