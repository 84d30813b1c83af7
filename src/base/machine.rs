//! What this machine has left.

/// Bytes of memory that programs can still have (`MemAvailable` of proc(5)); nothing where the system does
/// not say.
pub async fn available_memory() -> Option<u64> {
    parse(&tokio::fs::read_to_string("/proc/meminfo").await.ok()?, "MemAvailable:")
}

/// Bytes of memory that it has in all (`MemTotal`). Reads a file of the kernel's.
pub fn total_memory() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

fn parse(meminfo: &str, name: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_kernel_is_read() {
        let text = "MemTotal:       24682704 kB\nMemFree:         1000 kB\nMemAvailable:   23384200 kB\n";
        assert_eq!(parse(text, "MemAvailable:"), Some(23_384_200 * 1024));
        assert_eq!(parse(text, "MemTotal:"), Some(24_682_704 * 1024));
        assert_eq!(parse("MemTotal: 1 kB\n", "MemAvailable:"), None);
        assert_eq!(parse("MemAvailable: many kB\n", "MemAvailable:"), None);
    }
}
