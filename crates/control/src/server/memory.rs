//! What the process uses, as the operating system counts it.

/// Bytes in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Anonymous memory: heap and stacks.
    pub allocated: u64,
    /// What is mapped for data.
    pub heap: u64,
    /// Memory present, with the program itself.
    pub physical: u64,
}

/// The usage now; zero where the system does not tell.
pub fn usage() -> Usage {
    parse(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn parse(status: &str) -> Usage {
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    };
    Usage { allocated: field("RssAnon"), heap: field("VmData"), physical: field("VmRSS") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_from_the_status() {
        let status = "Name:\tx\nVmData:\t   3000 kB\nVmRSS:\t    2000 kB\nRssAnon:\t     500 kB\n";
        assert_eq!(parse(status), Usage { allocated: 512_000, heap: 3_072_000, physical: 2_048_000 });
        assert_eq!(parse(""), Usage::default());
        assert!(usage().physical > 100_000);
    }
}
